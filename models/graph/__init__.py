"""Layers of the scoring graph between the backbone and the score, and compilation of graphs to programs."""
