"""Benchmarks: this code beside other ways to do the same, and beside the limits of the machine."""
