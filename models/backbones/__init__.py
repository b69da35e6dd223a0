"""Feature extractors, their weights, and the training of the embedded one."""
