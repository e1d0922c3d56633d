"""Folders of manifests, and what lint says about them."""
