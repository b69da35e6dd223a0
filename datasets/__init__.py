"""Pictures: data sets on disk in several layouts, a sample data set drawn by code, and what `compact` is trained on."""
