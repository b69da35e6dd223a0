"""The scripts' command-line conventions: options, exit codes, progress bars."""
