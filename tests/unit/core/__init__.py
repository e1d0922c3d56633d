"""One module of tests per module of the core."""
