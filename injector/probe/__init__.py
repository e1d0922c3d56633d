"""Checks whether sidecars require a token: over HTTP and gRPC, by address or through the Kubernetes API."""
