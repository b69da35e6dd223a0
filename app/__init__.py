"""A page in the browser that works with the same models, files and pictures as the scripts: `python -m app`."""
