"""Files on disk: they are written completely or not at all; arrays with a json header in safetensors."""
