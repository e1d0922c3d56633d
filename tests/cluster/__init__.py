"""Behaviour on a real API server, one capability per file.

`make` or `python -m tests.controlplane build` builds the programs ahead; without that the first test builds
them, which takes a quarter of an hour. See `tests.controlplane.target` for running on another cluster.
"""
