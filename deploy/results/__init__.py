"""Output of results: score tables, heat maps and masks, and the folder service that adds to them."""
