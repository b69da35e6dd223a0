"""Reading data sets on disk, in the layouts of `LAYOUTS`: their categories, pictures and masks."""

from .category import Category, LabelledPicture, read_mask
from .layouts import LAYOUTS, find_categories, select_categories

__all__ = ["LAYOUTS", "Category", "LabelledPicture", "find_categories", "read_mask", "select_categories"]
