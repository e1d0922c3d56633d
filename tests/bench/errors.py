"""The one error of the bench: a sentence for the person who ran it."""


class BenchError(Exception):
    """Something is missing or went wrong; the text says what, and what to do."""
