"""Log lines, and the registry of metrics. Both are created once and passed as arguments."""
