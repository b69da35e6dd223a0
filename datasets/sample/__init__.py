"""A sample data set, drawn by code: `python -m datasets.sample FOLDER`."""

from .write import write_sample

__all__ = ["write_sample"]
