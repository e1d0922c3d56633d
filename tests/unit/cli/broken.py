"""A module of commands that has none."""

command = "not a command"
