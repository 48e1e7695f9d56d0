"""How many actors there are to be: pure arithmetic on a clock of the test's own."""

from __future__ import annotations

from typing import Any

from distdqn.config import ActorsConfig
from distdqn.runtime.crew import AT_ONCE, STARVES_S, WAITS_S, Change, Crew

BUSY = {"actor_idle": 0.0, "learner_idle": 0.1}
STARVED = {"actor_idle": 0.0, "learner_idle": 0.6}
WAITING = {"actor_idle": 0.8, "learner_idle": 0.0}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def crew(**keys: Any) -> tuple[Crew, Clock]:
    clock = Clock()
    return Crew(ActorsConfig(**{"count": "auto", "min": 2, "max": 100, **keys}), clock), clock


def test_all_cores_that_are_free_are_taken_a_few_at_a_time() -> None:
    c, _ = crew(max=1000)
    assert c.change(room=300, playing=0, starting=0, **BUSY) == Change(start=AT_ONCE)
    assert c.change(room=236, playing=0, starting=AT_ONCE, **BUSY) == Change()
    assert c.change(room=236, playing=60, starting=4, **BUSY) == Change(start=AT_ONCE - 4)
    assert c.change(room=0, playing=300, starting=0, **BUSY) == Change()
    assert c.change(room=50, playing=990, starting=0, **BUSY) == Change(start=10)  # actors.max
    assert c.change(room=300, playing=10, starting=0, **WAITING) == Change(start=AT_ONCE)  # nobody else wants them


def test_the_least_is_asked_for_where_there_is_no_room() -> None:
    c, _ = crew(min=5)
    assert c.change(room=0, playing=0, starting=0, **BUSY) == Change(start=5)
    assert c.change(room=0, playing=3, starting=1, **BUSY) == Change(start=1)
    assert c.change(room=0, playing=3, starting=2, **BUSY) == Change()


def test_a_cluster_that_scales_is_asked_for_more_when_the_learner_starves() -> None:
    c, clock = crew(autoscale=True, threads=2)
    assert c.change(room=0, playing=8, starting=0, **STARVED) == Change()
    clock.now += STARVES_S - 1
    assert c.change(room=0, playing=8, starting=0, **STARVED) == Change()
    clock.now += 1
    assert c.change(room=0, playing=8, starting=0, **STARVED) == Change(cpus=2 * 10)
    clock.now += 1
    assert c.change(room=2, playing=8, starting=0, **STARVED) == Change(start=2)  # asked once, and they come
    clock.now += STARVES_S
    assert c.change(room=0, playing=8, starting=0, **BUSY) == Change()  # and a moment that it does not starve
    clock.now += STARVES_S - 1
    assert c.change(room=0, playing=8, starting=0, **STARVED) == Change()
    clock.now += STARVES_S
    assert c.change(room=0, playing=99, starting=0, **STARVED) == Change(cpus=2 * 100)
    clock.now += STARVES_S
    assert c.change(room=0, playing=100, starting=0, **STARVED) == Change()


def test_and_for_less_when_the_actors_wait_for_long() -> None:
    c, clock = crew(autoscale=True, min=6)
    clock.now += WAITS_S - 1
    assert c.change(room=4, playing=16, starting=0, **WAITING) == Change()  # nor are any added meanwhile
    clock.now += 1
    assert c.change(room=4, playing=16, starting=0, **WAITING) == Change(retire=2, cpus=14)
    clock.now += WAITS_S
    assert c.change(room=4, playing=14, starting=0, **BUSY) == Change()  # the machine is to get empty
    assert c.change(room=4, playing=13, starting=0, **BUSY) == Change(start=1)
    clock.now += WAITS_S
    assert c.change(room=4, playing=6, starting=0, **WAITING) == Change()  # actors.min
    assert c.change(room=4, playing=14, starting=0, **STARVED) == Change()
    clock.now += STARVES_S
    assert c.change(room=4, playing=14, starting=0, **STARVED) == Change(start=4, cpus=17)  # it is needed after all
    unasked, clock = crew()
    clock.now += 10 * WAITS_S
    assert unasked.change(room=0, playing=16, starting=0, **WAITING) == Change()
