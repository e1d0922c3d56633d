"""The HTTP side, asked through real TLS sockets of a real `serve` process."""
