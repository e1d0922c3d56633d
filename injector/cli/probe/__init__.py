"""`probe`."""
