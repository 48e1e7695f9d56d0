"""Updates that go through a `Program` are those that go step by step, and wait for nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from distdqn.learn.learner import Learner
from distdqn.learn.minibatch import on_cpu, split_parts
from distdqn.learn.program import CannotCapture, Program
from distdqn.types import Batch
from tests.configs import network_config
from tests.learn.helpers import OPTIMISERS, PIXELS, assert_same, make_learner, update
from tests.learn.nowait import NoWait

Make = Callable[..., Batch]
SEQUENCES = {"agent": {"sequence": {"burn_in": 1, "length": 3}}}
TRANSFORMER = {"torso": "mlp", "hidden": (16,), "memory": "transformer", "memory_size": 8, "memory_steps": 2}
CONV = {"torso": "dqn_2013", "hidden": (16,)}

AGENTS: dict[str, dict[str, Any]] = {
    "vector": {},
    "pixels": {"spec": PIXELS, "network": network_config(**CONV, dueling=True)},
    "noisy": {"network": network_config(torso="mlp", hidden=(16,), noisy=True)},
    "dropout": {"network": network_config(torso="mlp", hidden=(16,), dropout=0.5)},
    "categorical": {"network": network_config(torso="mlp", hidden=(16,), head="categorical", v_min=-3.0, v_max=3.0)},
    "quantile": {"network": network_config(torso="mlp", hidden=(16,), head="quantile")},
    "implicit": {"network": network_config(torso="mlp", hidden=(16,), head="implicit_quantile")},
    "munchausen": {"agent": {"bootstrap": "munchausen"}},
    "lstm": {"network": network_config(torso="mlp", hidden=(16,), memory="lstm", memory_size=8), **SEQUENCES},
    "transformer": {"network": network_config(**TRANSFORMER), **SEQUENCES},
    "retrace": {"agent": {"sequence": {"length": 6}, "returns": "retrace", "n_step": 1}},
    "polyak": {"target": "polyak", "target_tau": 0.1},
    "penalty": {"l2": 0.01},
    "reset": {"reset_period": 5},
    "annealed": {"agent": {"n_step": 3, "n_step_final": 1, "discount_final": 0.5, "anneal_updates": 7}},
    "shifted": {"spec": PIXELS, "network": network_config(**CONV), "augment": "both", "online_views": 2},
    "batch norm": {"spec": PIXELS, "network": network_config(**CONV, normalize="batch")},
    "spectral": {"spec": PIXELS, "network": network_config(**CONV, normalize="spectral"), "target": "polyak"},
    "linear": {"schedule": "inverse", "schedule_decay": 0.1},
    "clipped": {"max_grad_norm": 0.01, "max_grad_value": 0.001},
    **{f"optimizer {i}": kind for i, kind in enumerate(OPTIMISERS)},
}


def two(**settings: Any) -> tuple[Learner, Learner]:
    """The same learner twice: one that looks at each update, one that does not."""
    return make_learner(**settings), make_learner(**settings, capture="on")


def batches(make_batch: Make, learner: Learner, calls: int, updates: int = 4) -> list[Batch]:
    """What one shard drew for each call."""
    memory = learner.online.state_size
    return [make_batch(learner.spec, (6,) * updates, steps=6, seed=k, memory=memory) for k in range(calls)]


@pytest.mark.parametrize("name", AGENTS)
def test_it_makes_the_updates_that_are_made_one_by_one(make_batch: Make, name: str) -> None:
    one, other = two(**AGENTS[name])
    for batch in batches(make_batch, one, 4):
        (a,), stats = update(one, batch, progress=0.1)
        (b,), others = update(other, batch, progress=0.1)
        np.testing.assert_array_equal(a.key, b.key)
        np.testing.assert_array_equal(a.priority, b.priority)
        assert replace(others, seconds=stats.seconds) == stats
    assert other.program is not None and one.program is None
    assert_same(one.state(), other.state())


@pytest.mark.parametrize("name", AGENTS)
def test_it_waits_for_nothing(make_batch: Make, name: str) -> None:
    _, learner = two(**AGENTS[name])
    first, *_ = batches(make_batch, learner, 1)
    update(learner, first)
    assert learner.program is not None
    learner.program.begin(4, 6)
    batch = next(on_cpu(split_parts([first])))
    with NoWait() as watched:
        learner.program(batch, learner._horizon(4))
    assert watched.operations > 20


OTHERS = ("pixels", "categorical", "quantile", "munchausen", "penalty", "linear", "clipped", "retrace")


@pytest.mark.parametrize("name", [name for name in AGENTS if name not in OTHERS])
@pytest.mark.parametrize("bad", [(2, 0), (2, 2), (1, 3), (0, 1), (2, "all"), (0, "all")])
def test_a_batch_that_is_not_finite_is_left_out(make_batch: Make, name: str, bad: tuple[int, int | str]) -> None:
    one, other = two(**{"target_period": 3, **AGENTS[name]})
    skipped = 0
    for k, batch in enumerate(batches(make_batch, one, 4)):
        if k == bad[0]:
            rows = batch.reward.reshape(4, -1)
            rows[slice(None) if bad[1] == "all" else bad[1], :6] = np.nan  # all steps of the first window
        (a,), stats = update(one, batch)
        (b,), others = update(other, batch)
        np.testing.assert_array_equal(a.key, b.key)
        np.testing.assert_array_equal(a.priority, b.priority)
        assert repr(replace(others, seconds=stats.seconds)) == repr(stats)
        skipped += others.skipped
    assert skipped == (4 if bad[1] == "all" else 1) and one.updates == other.updates == 16 - skipped
    assert other.program is not None
    assert_same(one.state(), other.state())


def test_what_cannot_be_captured_is_made_step_by_step(
    make_batch: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = two()
    first, second, third = batches(make_batch, one, 3)
    for learner in (one, other):
        update(learner, first)
    run, calls = Program.__call__, 0

    def fails_later(self: Program, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise CannotCapture("a copy")
        run(self, *arguments)

    monkeypatch.setattr(Program, "__call__", fails_later)
    for batch in (second, third):
        (a,), stats = update(one, batch)
        (b,), others = update(other, batch)
        np.testing.assert_array_equal(a.priority, b.priority)
        assert replace(others, seconds=stats.seconds) == stats
    assert calls == 3 and other.program is None
    assert "they cannot be captured: a copy" in capsys.readouterr().err
    assert_same(one.state(), other.state())
