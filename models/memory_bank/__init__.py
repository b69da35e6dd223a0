"""Patches of good pictures: the choice of a coreset, and the search for the nearest of them."""
