"""Turning anomaly maps and scores into figures, tables and pictures."""
