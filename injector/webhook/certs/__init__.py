"""Where the serving certificate comes from, and how it is replaced while serving."""
