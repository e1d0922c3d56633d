"""A module whose `command` is not a command."""

command = "not a command"
