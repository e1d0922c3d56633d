"""`secret create`, `rotate`, `revoke` and `list`."""
