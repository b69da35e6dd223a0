"""Pictures in: finding, decoding, preprocessing, and loading them ahead of their use."""
