"""`token generate`, `verify` and `jwks`, and what commands that make tokens share."""
