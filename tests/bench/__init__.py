"""Speed, shown: our server beside its peers, on one core, through TLS. `python -m tests.bench` runs it."""
