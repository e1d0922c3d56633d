"""Asking sidecars whether they demand a token: over HTTP, over gRPC, by address or through the Kubernetes API."""
