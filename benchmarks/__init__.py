"""Measurements of speed: what the figures in the documentation come from."""
