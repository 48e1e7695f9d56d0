from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import pytest

from distdqn.config import BudgetConfig, ReplayConfig, RunConfig
from distdqn.record.console import Screen, count, duration, number, stage

CONFIG = RunConfig(
    name="pong_small",
    note="Pong on two cores",
    budget=BudgetConfig(env_frames=1000, seconds=100.0),
    replay=ReplayConfig(capacity=1000, min_size=100),
)


def record(time_s: float, env_frames: int, updates: int, **rest: float) -> dict[str, float]:
    fixed = {"time_s": time_s, "env_frames": env_frames, "env_steps": env_frames / 4, "learner_updates": updates}
    fixed["run/fraction"] = env_frames / 1000
    return fixed | {k.replace("__", "/"): v for k, v in rest.items()}


def test_the_stage_says_what_is_waited_for() -> None:
    assert stage(CONFIG, {}) == stage(CONFIG, {"learner_updates": 7}) == "starting"  # a resumed run's last numbers
    last = record(1, 10, 0, replay__transitions=50)
    assert stage(CONFIG, last) == "filling the replay, 50% of what learning needs"
    last |= record(2, 20, 1, replay__transitions=500, learner__idle_fraction=0.7, actor__idle_fraction=0.1)
    assert stage(CONFIG, last) == "the learner waits for experience"
    last |= record(3, 30, 2, learner__idle_fraction=0.1, actor__idle_fraction=0.6)
    assert stage(CONFIG, last) == "the actors wait for the learner"


def test_the_stage_says_what_to_change_where_that_is_known() -> None:
    last = record(2, 20, 1, replay__transitions=500, run__learner_idle=0.5, run__actors_idle=0.0)
    assert stage(CONFIG, last) == (
        "the learner waits 50% of its time: about 2 more actors, or learner.samples_per_insert=16"
    )


def test_several_machines_are_on_the_line_and_a_single_one_is_not(monkeypatch: Any) -> None:
    out = io.StringIO()
    screen = Screen(CONFIG, "lines", out, every=0.0)
    screen.write(full() | {"node/a/cpu": 0.25})
    screen.write(full() | {"node/a/cpu": 0.25, "node/b/cpu": 0.75})
    screen.write(full())  # keeps them
    screen.write(full() | {"node/a/memory": 0.95})
    shown = ["a's" in line or "machines" in line for line in out.getvalue().splitlines()]
    assert shown == [False, True, True, True]
    assert " | 2 machines, CPU 25% to 75% | actor restarts 1" in out.getvalue()
    monkeypatch.setenv("TERM", "xterm")
    live = Screen(CONFIG, "live", terminal := Terminal())
    live.write(full() | {"node/a/cpu": 0.25, "node/b/cpu": 0.75})
    live._console.print(live._draw())
    live.close()
    assert "2 machines, CPU 25% to 75%" in terminal.getvalue()


def full() -> dict[str, float]:
    return record(
        30,
        400,
        50,
        run__seconds_left=303.0,
        run__frames_per_s=2345.6,
        actor__episode_return=-9.0,
        actor__recent_return=-3.25,
        eval__return_mean=4.5,
        eval__best_return=5.5,
        eval__human_normalised=0.71,
        learner__loss=float("nan"),
        replay__transitions=500,
        faults__actor_restarts=1,
        actor__weights_lag=float("inf"),
    )


def test_lines_are_one_line_each_and_not_too_many() -> None:
    out = io.StringIO()
    screen = Screen(CONFIG, "auto", out)  # no terminal
    screen.write(full())
    screen.write(full())
    screen.event("12:03:11 actor 1 [lost], restarted")
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 and lines[1] == "12:03:11 actor 1 [lost], restarted"
    assert lines[0].startswith("30 s   40%, 5 min 03 s left | 400 frames (2.35k/s) | 50 updates (–/s) | return -3.25 |")
    for part in ("evaluation 4.5 (71% of human), best 5.5", "loss nan", "actor restarts 1"):
        assert part in lines[0]


def test_what_a_record_lacks_keeps_its_value() -> None:
    screen = Screen(CONFIG, "off", io.StringIO())
    screen.write(record(30, 400, 50, learner__loss=0.5))
    screen.write(record(40, 500, 60))
    assert screen.last == record(40, 500, 60) | {"learner/loss": 0.5}


def test_off_shows_only_the_summary() -> None:
    out = io.StringIO()
    screen = Screen(CONFIG, "off", out)
    screen.write(full())
    screen.event("something")
    assert out.getvalue() == ""
    screen.close([("folder", "/runs/pong")])
    assert out.getvalue() == "folder      /runs/pong\nlast event  something\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_live_screen_fits_and_hides_nothing(monkeypatch: Any, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    screen = Screen(CONFIG, "live", out)
    screen.event("12:03:11 actor 1 lost, restarted")
    screen.write(full())
    assert screen._live is not None
    screen._console.print(screen._live.get_renderable())
    screen.close()
    shown = out.getvalue()
    assert "\x1b[36m" not in shown  # no colour
    for part in ("pong_small", "pong, dqn, seed 1", "40.0%", "Pong on two cores", "71%", "5.5", "12:03:11 actor 1"):
        assert part in shown
    if width >= 80:
        assert "…" not in shown
        for label in ("frames/s", "updates/s", "samples/s", "samples/insert", "actors idle", "learner idle", "lag"):
            assert label in shown


def test_short_numbers() -> None:
    assert [count(v) for v in (None, 0, 12.34, 999, 1234, 23_456, 200_000, 999_999, 1.2e6, 5e9)] == [
        "–",
        "0",
        "12.3",
        "999",
        "1.23k",
        "23.5k",
        "200k",
        "1.00M",
        "1.20M",
        "5.00G",
    ]
    assert [number(v) for v in (0.012345, -3.25, 1234.5)] == ["0.0123", "-3.25", "1,234"]
    assert [duration(v) for v in (42, 303, 7500, 273_600)] == ["42 s", "5 min 03 s", "2 h 05 min", "3 d 04 h"]


def test_importing_needs_no_screen_library() -> None:
    heavy = ("rich", "wandb", "tensorboard")
    code = f"import sys, distdqn.record.recorder; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
