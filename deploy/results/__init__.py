"""Results out: score tables, heat maps, masks, and the folder service that adds to them."""
