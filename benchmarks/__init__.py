"""Measures this code beside other ways to do the same, and beside what the machine could do at most."""
