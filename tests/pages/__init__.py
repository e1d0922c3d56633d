"""The command blocks of README and docs: read from the pages, run as typed, compared with what the pages show."""
