"""Data sets on disk: their categories, pictures and masks."""
