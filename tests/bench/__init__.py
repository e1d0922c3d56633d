"""Speed, shown: our server next to its peers, on one core, through TLS. `python -m tests.bench` runs it."""
