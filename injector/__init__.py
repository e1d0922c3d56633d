"""Gives every Dapr sidecar on Kubernetes its API token."""

__version__ = "0.1.0"
