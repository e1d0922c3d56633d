"""A token's life outside of admission: made, signed, put into Secrets, replaced, found in what runs."""
