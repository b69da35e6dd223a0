"""One stage per file: its `run` measures and returns what the report shows."""
