from __future__ import annotations

import pytest

from injector.webhook.slots import GRACE, LEAST, Queue, Slots

LIMIT = 16  # two of them are reserved for new connections


class Fake:
    """A connection that notes its eviction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queue: Queue | None = None
        self.is_busy = False
        self.evicted = False
        self.looked_at = 0

    def evict(self) -> None:
        self.evicted = True


class Port:
    """A port with fake connections and a clock of its own."""

    def __init__(self, *, by_history: bool = True) -> None:
        self.slots = Slots(by_history=by_history)
        self.now = 100.0
        self.all: list[Fake] = []

    def connect(self, name: str) -> Fake:
        connection = Fake(name)
        self.slots.enter(connection, self.now)
        self.all.append(connection)
        return connection

    def idle(self, name: str) -> Fake:
        connection = self.connect(name)
        self.slots.rest(connection, self.slots.idle, self.now)
        return connection

    def served(self, name: str) -> Fake:
        connection = self.connect(name)
        self.slots.rest(connection, self.slots.served, self.now)
        return connection

    def evict(self) -> tuple[str | None, list[str]]:
        """The kind, and the names of all that are evicted by now."""
        victim = self.slots.victim(self.now, LIMIT)
        if victim is not None:
            self.slots.evict(victim)
        return victim and victim.kind, [each.name for each in self.all if each.evicted]


def test_silent_connections_are_evicted_first_and_oldest_first() -> None:
    port = Port()
    port.served("served")
    port.idle("idle")
    for name in "abc":
        port.connect(name)
    assert port.evict() == ("silent", ["a"])
    port.now += GRACE
    assert port.evict() == ("silent", ["a", "b"])
    assert port.evict() == ("silent", ["a", "b", "c"])
    assert port.evict() == ("idle", ["idle", "a", "b", "c"])
    assert port.evict() == ("served", ["served", "idle", "a", "b", "c"])
    assert (port.evict()[0], port.slots.count) == (None, 0)


def test_new_connections_keep_the_reserved_slots_for_a_moment() -> None:
    port = Port()
    port.served("served")
    for name in "ab":
        port.connect(name)
    assert port.evict() == ("served", ["served"])
    assert port.evict() == ("silent", ["served", "a"])


@pytest.mark.parametrize("kind", ["idle", "served"])
def test_longest_idle_connection_is_evicted(kind: str) -> None:
    port = Port()
    connections = [getattr(port, kind)(name) for name in "abc"]
    port.slots.rest(connections[0], getattr(port.slots, kind), port.now)
    assert port.evict() == (kind, ["b"])
    assert port.evict() == (kind, ["b", "c"])


def test_idle_connection_is_evicted_first_without_history() -> None:
    port = Port(by_history=False)
    port.idle("idle")
    port.connect("silent")
    port.idle("idle since")
    assert port.evict() == ("idle", ["idle"])
    assert port.evict() == ("idle", ["idle", "silent"])


def test_connection_is_not_evicted_right_after_accept_or_answer() -> None:
    port = Port()
    port.connect("silent")
    victim = port.slots.victim(port.now, LIMIT)
    assert victim is not None
    assert victim.ready == port.now + LEAST
    port.now += 7
    port.served("served")
    victim = port.slots.victim(port.now - 7, LIMIT)
    assert victim is not None
    assert (victim.kind, victim.ready) == ("served", port.now + LEAST)


def test_closing_connection_is_evicted_first() -> None:
    for by_history in (True, False):
        port = Port(by_history=by_history)
        port.connect("silent")
        port.slots.close(port.served("closing"))
        port.now += GRACE
        assert port.evict() == ("closing", ["closing"])


def test_busy_connections_are_not_evicted() -> None:
    port = Port()
    busy = [port.served("a"), port.idle("b"), port.connect("c")]
    for each in busy:
        each.is_busy = True
    port.now += GRACE
    assert port.evict() == (None, [])
    assert port.slots.count == 3
    # After its answer it can be evicted again.
    busy[0].is_busy = False
    port.slots.rest(busy[0], port.slots.served, port.now)
    assert port.evict() == ("served", ["a"])


def test_busy_connection_with_a_stalled_peer_can_be_evicted() -> None:
    port = Port()
    busy = port.idle("a")
    busy.is_busy = True
    assert port.evict() == (None, [])
    busy.is_busy = False
    port.slots.stall(busy)
    assert port.evict() == ("idle", ["a"])


def test_evicted_connection_has_no_slot_in_any_state() -> None:
    port = Port()
    connection = port.idle("a")
    assert port.evict() == ("idle", ["a"])
    port.slots.rest(connection, port.slots.served, port.now)
    port.slots.close(connection)
    port.slots.stall(connection)
    port.slots.leave(connection)
    assert (port.slots.count, connection.queue, port.evict()[0]) == (0, None, None)


def test_busy_connections_are_checked_once_per_request() -> None:
    class Watched(Fake):
        @property
        def is_busy(self) -> bool:
            self.looked_at += 1
            return True

        @is_busy.setter
        def is_busy(self, _: bool) -> None: ...

    slots = Slots(by_history=True)
    connections = [Watched("") for _ in range(100)]
    for each in connections:
        slots.enter(each, 0.0)
        slots.rest(each, slots.served, 0.0)
    for _ in range(50):
        assert slots.victim(0.0, LIMIT) is None
    assert sum(each.looked_at for each in connections) == len(connections)
