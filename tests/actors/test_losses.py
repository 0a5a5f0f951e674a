"""How long workers without room are waited for, by a clock of the test's own; with real nodes: tests/multinode."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scuba_ray.actors import growth, losses
from scuba_ray.actors.losses import NodesLostError, Watch
from scuba_ray.protocols import Resources


def seconds_until_the_end(
    monkeypatch: pytest.MonkeyPatch, *, grows: bool, launching: float, minutes: float, room_again: float = 1e9
) -> float | None:
    """When a watch ends a pool of two workers, one of which has lost its node at 0; None if not within an hour."""
    clock = SimpleNamespace(monotonic=lambda: clock.now, now=1000.0)
    monkeypatch.setattr(losses, "time", clock)
    monkeypatch.setattr(losses, "ray", SimpleNamespace(nodes=list))
    monkeypatch.setattr(losses, "capacity", lambda *sizes: 1 + (clock.now >= 1000 + room_again))
    monkeypatch.setattr(growth, "can_grow", lambda: grows)
    monkeypatch.setattr(growth, "is_launching", lambda: clock.now < 1000 + launching)
    watch = Watch(Resources(cpus=1), least=1, minutes=minutes)
    while clock.now < 1000 + 3600:
        try:
            watch.check(2)
        except NodesLostError as error:
            assert str(error) == "nodes were lost: what is left holds 1 of 2 workers"
            return clock.now - 1000
        clock.now += 0.5
    return None


@pytest.mark.parametrize(
    ("grows", "launching", "minutes", "ends"),
    [
        (False, 0.0, 30.0, 30.0),
        (True, 0.0, 30.0, 90.0),
        (True, 200.0, 30.0, 290.0),
        (True, 1e9, 5.0, 300.0),
        (True, 1e9, 0.0, 0.0),
    ],
)
def test_nodes_on_their_way_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, grows: bool, launching: float, minutes: float, ends: float
) -> None:
    waited = seconds_until_the_end(monkeypatch, grows=grows, launching=launching, minutes=minutes)
    assert waited is not None and abs(waited - ends) <= 4


def test_a_node_that_comes_in_time_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_until_the_end(monkeypatch, grows=True, launching=0, minutes=30, room_again=60) is None
