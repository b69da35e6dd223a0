"""Several processes that fit one category together, or one category each: data exchange, and watching for deaths."""
