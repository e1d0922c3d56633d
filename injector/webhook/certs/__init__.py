"""Sources of the serving certificate, and its replacement while the server runs."""
