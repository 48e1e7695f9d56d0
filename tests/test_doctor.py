from __future__ import annotations

import io

import pytest
from rich.console import Console

from distdqn import doctor as doctor_module
from distdqn.doctor import doctor
from distdqn.machine import Machine
from distdqn.runtime.preflight import GIB


def ask(*overrides: str) -> tuple[int, str]:
    """The doctor's verdict on `overrides`, and what it printed."""
    out = io.StringIO()
    code = doctor(("learner.device=cpu", *overrides), Console(file=out, width=200), start_ray=False)
    return code, out.getvalue()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop."""
    monkeypatch.setattr(doctor_module, "inspect", lambda: Machine(2, 0, 16 * GIB, 8 * GIB, 4 * GIB))


@pytest.mark.usefixtures("machine")
def test_a_healthy_machine_is_told_what_it_would_run() -> None:
    code, text = ask()
    assert code == 0 and "Training can start." in text and "problem" not in text
    for words in ("2 usable", "16.0 GiB, 8.0 GiB free", "torch ", "Atari games", "pong: ", "atari/pong", "when full"):
        assert words in text


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("env.game=pongg",), "env.game=pongg"),
        (("replay.capacity=50000000",), "would fit"),
        (("agent.network.head.hidden=[a]",), "agent.network.head.hidden=['a']"),  # brackets are not taken for markup
    ],
)
def test_a_run_that_cannot_be_is_a_problem(overrides: tuple[str, ...], words: str) -> None:
    code, text = ask(*overrides)
    assert code == 1 and words in text and "Training cannot start" in text


def test_too_little_shared_memory_comes_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "inspect", lambda: Machine(2, 0, 16 * GIB, 8 * GIB, GIB // 16))
    code, text = ask()
    assert code == 1 and "--shm-size" in text


@pytest.mark.usefixtures("machine")
def test_more_actors_than_cores_is_a_note_and_no_problem() -> None:
    code, text = ask("experiment=cartpole", "actors.count=9")
    assert code == 0 and "note" in text and "2 are usable" in text
