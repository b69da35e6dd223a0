"""The report of an evaluation as one html page that needs no network, and its curves and times as files."""

from .write import LIBRARIES, write_page

__all__ = ["LIBRARIES", "write_page"]
