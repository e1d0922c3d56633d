"""The HTTP server around the core: TLS, limits, routes, health.

It has no rules about Pods. Only the self-managed certificates in `certs` call an API server.
"""
