"""Command-line conventions of the scripts: options, exit codes, progress bars."""
