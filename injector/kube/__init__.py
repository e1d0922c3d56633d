"""The Kubernetes API, and the only package that imports its client."""
