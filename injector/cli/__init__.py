"""The command line: one error boundary, and a module for each command, named after it.

Commands of one family share a folder. Its `command.py` is the command that is named after the folder.
"""
