"""Checks of an installation: each has an id that never changes, and a page."""
