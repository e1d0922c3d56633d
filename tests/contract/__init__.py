"""What drifts unless somebody looks: imports, names in the documentation, rows without an example."""
