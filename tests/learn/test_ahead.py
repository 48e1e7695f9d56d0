"""Preparing the next minibatch beside the update on this one: nothing but the time may differ."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.config import NetworkConfig
from distdqn.learn.pace import SideBySide
from distdqn.types import Batch
from tests.configs import network_config
from tests.learn.helpers import MLP, PIXELS, VECTOR, assert_same, make_learner, update

Make = Callable[..., Batch]
IQN = network_config(
    torso="mlp", hidden=(16,), head="implicit_quantile", noisy=True, online_quantiles=4, target_quantiles=4
)


def torn(batch: Batch, minibatch: int) -> Batch:
    """`batch` with a reward that is not finite in one minibatch."""
    reward = batch.reward.copy()
    reward[sum(batch.sizes[:minibatch]), 0] = np.nan
    return replace(batch, steps=batch.steps | {"reward": reward})


@pytest.mark.parametrize("bootstrap", ["max", "double", "munchausen"])
@pytest.mark.parametrize("network", [MLP, IQN])
@pytest.mark.parametrize(("period", "reset"), [(3, None), (1, None), (100, None), (100, 4)])
def test_an_update_is_the_same_bit_for_bit(
    make_batch: Make, bootstrap: str, network: NetworkConfig, period: int, reset: int | None
) -> None:
    agent: dict[str, Any] = {"bootstrap": bootstrap, "reward": "none"}
    alone, beside = (
        make_learner(VECTOR, network, threads=threads, target_period=period, reset_period=reset, agent=agent)
        for threads in (1, 2)
    )
    assert not isinstance(alone.pace, SideBySide) and isinstance(beside.pace, SideBySide)
    where: list[str] = []
    inner = beside.objective.prepare

    def prepare(*args: Any) -> Any:
        where.append(threading.current_thread().name)
        return inner(*args)

    beside.objective = beside.objective._replace(prepare=prepare)
    for call in range(3):
        for learner in (alone, beside):
            batch = make_batch(VECTOR, (4,) * 5, seed=call)
            learner_parts, _ = update(learner, torn(batch, 2) if call == 1 else batch)
            if learner is alone:
                expected = learner_parts
        for ours, theirs in zip(expected, learner_parts, strict=True):
            np.testing.assert_array_equal(ours.priority, theirs.priority)
        assert_same(alone.online.arrays(), beside.online.arrays())
        assert_same(alone.target.arrays(), beside.target.arrays())
    assert alone.updates == beside.updates == 14
    assert all(name.startswith("ahead") for name in where)
    # the minibatch after the torn one was announced as an update that did not happen, unless a change was due
    assert len(where) >= 15


def test_frames_are_prepared_aside_too(make_batch: Make) -> None:
    alone, beside = (make_learner(PIXELS, network_config(torso="small", hidden=(8,)), threads=t) for t in (1, 2))
    for learner in (alone, beside):
        update(learner, make_batch(PIXELS, (3,) * 4))
    assert_same(alone.online.arrays(), beside.online.arrays())


@pytest.mark.parametrize(
    "settings", [{"target": "polyak"}, {"agent": {"returns": "peng", "n_step": 3}}, {"threads": 1}]
)
def test_nothing_is_done_ahead_where_there_is_nothing_to_gain(settings: dict[str, Any]) -> None:
    learner = make_learner(**({"threads": 2} | settings))
    assert not isinstance(learner.pace, SideBySide) and learner.pace.threads == settings.get("threads", 2)


def test_what_was_announced_is_taken_and_anything_else_is_made_anew() -> None:
    made: list[tuple[str, int]] = []

    def prepare(batch: str, number: int) -> str:
        made.append((batch, number))
        return f"{batch}{number}"

    numbers = iter([1, 2, 2, 3])  # the third was announced as update 3, but for a change that was due
    batches: list[Any] = list("abcd")
    prepared = SideBySide(prepare, 1, False).prepared(batches, lambda: next(numbers), lambda number: number == 3)
    assert list(prepared) == [("a", "a1"), ("b", "b2"), ("c", "c2"), ("d", "d3")]
    assert made == [("a", 1), ("b", 2), ("c", 2), ("d", 3)]
    numbers = iter([1, 1])  # the second is announced as update 2
    prepared = SideBySide(prepare, 1, False).prepared(batches[:2], lambda: next(numbers), lambda number: False)
    assert list(prepared) == [("a", "a1"), ("b", "b1")] and made[4:] == [("a", 1), ("b", 2), ("b", 1)]


def test_an_error_reaches_who_takes() -> None:
    def prepare(batch: str, number: int) -> None:
        raise ValueError(f"{batch} is bad")

    batch: Any = "this"
    with pytest.raises(ValueError, match="this is bad"):
        list(SideBySide(prepare, 1, False).prepared([batch], lambda: 0, bool))


def test_its_thread_computes_alone() -> None:
    torch.set_num_threads(1)
    batch: Any = None
    prepared = SideBySide(lambda *_: torch.get_num_threads(), 1, False).prepared([batch], lambda: 0, bool)
    assert list(prepared) == [(None, 1)]
