"""Files on disk: written whole or not at all, and arrays with a json header in safetensors."""
