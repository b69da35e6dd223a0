"""Programs: they are saved, loaded, checked when loaded, run and timed here."""
