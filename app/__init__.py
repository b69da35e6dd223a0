"""A page in the browser over the same models, files and pictures as the scripts make: `python -m app`."""
