"""Contracts between code, documentation and tests: imports, documented names, rows with examples."""
