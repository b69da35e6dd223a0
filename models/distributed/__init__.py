"""Several processes that fit one category together, or each its own: what they say to each other, and who has died."""
