"""The HTTP shell around the core: TLS, limits, routes, health.

Holds no rule about Pods and never calls an API server.
"""
