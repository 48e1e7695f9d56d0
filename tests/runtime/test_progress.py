"""The `run/` metrics and the recent return: where a run is, how fast it goes, how long it still takes."""

from __future__ import annotations

import pytest

from distdqn.config import BudgetConfig
from distdqn.runtime import progress
from distdqn.runtime.progress import RECENT_GAMES, RECENT_S, Progress
from distdqn.types import RolloutStats, UpdateStats

BUDGET = BudgetConfig(env_frames=1000, seconds=1000.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def at(run: Progress, clock: list[float], time_s: float, frames: int, updates: int = 0) -> dict[str, float]:
    """The `run/` metrics at a time and with counts."""
    clock[0] = 100.0 + time_s
    run.count.update(env_frames=frames, learner_updates=updates)
    return {k.removeprefix("run/"): v for k, v in run.metrics(8.0).items() if k.startswith("run/")}


def test_the_limit_that_is_nearest_counts(clock: list[float]) -> None:
    run = Progress(BUDGET, actors=1)
    assert at(run, clock, 10, 200) == {"fraction": 200 / 1000}  # no speed before there are two times
    assert at(run, clock, 20, 300, 5) == {
        "fraction": 300 / 1000,
        "frames_per_s": (300 - 200) / 10,
        "updates_per_s": 5 / 10,
        "seconds_left": (1000 - 300) / 10,
    }
    assert at(run, clock, 900, 300)["seconds_left"] == 1000 - 900  # at no frames per second, the clock's limit
    assert at(run, clock, 900.1, 1000) == {"fraction": 1.0, "seconds_left": 0.0}  # too soon for speeds


def test_updates_may_be_the_limit_and_lockstep_shows_the_clock(clock: list[float]) -> None:
    run = Progress(BudgetConfig(env_frames=None, updates=50), actors=1)
    at(run, clock, 10, 0)
    assert at(run, clock, 20, 400, 20) == {
        "fraction": 20 / 50,
        "frames_per_s": 40.0,
        "updates_per_s": 2.0,
        "seconds_left": (50 - 20) / 2,
    }
    clock[0] = 100.0
    run = Progress(BudgetConfig(env_frames=None, seconds=100.0), actors=1, by_clock=False)
    assert at(run, clock, 25, 0)["fraction"] == 25 / 100 and run.fraction == 0.0


def test_speeds_are_those_of_the_last_minute(clock: list[float]) -> None:
    run = Progress(BUDGET, actors=1)
    for t in range(0, 101, 10):
        at(run, clock, t, t)  # 1 a second
    for t in range(110, 100 + int(RECENT_S) + 1, 10):
        shown = at(run, clock, t, 100 + 3 * (t - 100))
    assert shown["frames_per_s"] == 3.0


def test_a_resumed_run_measures_its_own_speed(clock: list[float]) -> None:
    first = Progress(BUDGET, actors=1)
    at(first, clock, 10, 400)
    run = Progress(BUDGET, actors=1)
    run.restore(first.state())
    assert at(run, clock, 20, 500) == {"fraction": 500 / 1000}
    assert at(run, clock, 30, 520)["frames_per_s"] == (520 - 500) / 10


def test_who_waited_is_said_once_learning_has_settled(clock: list[float]) -> None:
    run = Progress(BUDGET, actors=2)

    def go_on(time_s: float, played_s: float, learned_s: float, updates: int) -> dict[str, float]:
        run.rollout(RolloutStats(0, 1, 1, 1, 0, played_s), version=0)
        run.update(UpdateStats(updates, updates, 0, {}, 0.0, learned_s))
        return at(run, clock, time_s, 10, updates)

    go_on(10, 20.0, 0.0, 0)
    go_on(30, 40.0, 0.0, 0)  # so long there was nothing to learn from
    assert "learner_idle" not in go_on(40, 20.0, 1.0, 3)
    assert "learner_idle" not in go_on(45, 10.0, 5.0, 9)
    run.faults["store_full"] = 2
    shown = go_on(60, 14.0, 13.0, 20)
    assert shown["learner_idle"] == pytest.approx(1 - (5 + 13) / 20)
    assert shown["actors_idle"] == pytest.approx(1 - (10 + 14) / (2 * 20)) and shown["store_full"] == 2


def test_no_speeds_while_nothing_is_played_any_more(clock: list[float]) -> None:
    run = Progress(BUDGET, actors=1)
    at(run, clock, 10, 200)
    clock[0] += 10
    assert "run/frames_per_s" not in run.metrics(8.0, training=False)


def test_the_recent_return_is_that_of_the_last_games(clock: list[float]) -> None:
    run = Progress(BUDGET, actors=1)
    assert "actor/recent_return" not in run.metrics(8.0)
    games = (1.0,) * RECENT_GAMES + (5.0,) * (RECENT_GAMES // 4)
    ones = (1,) * len(games)
    run.rollout(RolloutStats(0, 1, 4, 1, 0, 1.0, returns=games, lengths=ones, epsilons=ones), version=0)
    assert run.metrics(8.0)["actor/recent_return"] == 0.75 * 1 + 0.25 * 5
