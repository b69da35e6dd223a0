"""One stage per file; its function `run` measures and returns a `Stage` for the report."""
