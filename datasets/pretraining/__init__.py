"""Pictures that the embedded backbone is trained on."""
