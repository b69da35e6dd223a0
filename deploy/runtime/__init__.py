"""Programs: saved, loaded, run, checked when loaded, and timed."""
