"""Layers of the scoring graph between backbone and score, and their compilation."""
