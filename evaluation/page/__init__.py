"""The report of an evaluation as one html page that needs no network, and its curves and times as files."""

from .chapter import Chapter, check_libraries
from .write import write_page

__all__ = ["Chapter", "check_libraries", "write_page"]
