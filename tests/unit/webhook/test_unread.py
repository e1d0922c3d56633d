"""Answers that are not read: counted over all connections, and dropped above the limit."""

from __future__ import annotations

from injector.webhook.unread import UnreadAnswers


class Client:
    """A connection whose client does not read."""

    def __init__(self) -> None:
        self.aborted = False

    def abort_unread(self) -> None:
        self.aborted = True


def test_reader_that_took_nothing_for_longest_is_aborted_first() -> None:
    unread = UnreadAnswers(limit=100)
    first, second, third = (Client() for _ in range(3))
    unread.keep(first, 40)
    unread.keep(second, 40)
    unread.progressed(first)
    assert unread.total == 80
    unread.keep(third, 50)
    assert [each.aborted for each in (first, second, third)] == [False, True, False]
    assert unread.total == 90


def test_one_answer_above_the_limit_is_dropped() -> None:
    unread = UnreadAnswers(limit=100)
    small, large = Client(), Client()
    unread.keep(small, 1)
    unread.keep(large, 101)
    assert (small.aborted, large.aborted, unread.total) == (True, True, 0)


def test_reader_that_has_read_all_is_forgotten() -> None:
    unread = UnreadAnswers(limit=100)
    first, second = Client(), Client()
    unread.keep(first, 100)
    unread.drop(first)
    unread.drop(first)
    unread.keep(second, 100)
    assert (first.aborted, second.aborted, unread.total) == (False, False, 100)
