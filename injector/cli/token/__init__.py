"""`token generate`, `verify` and `jwks`, and options shared by all commands that mint tokens."""
