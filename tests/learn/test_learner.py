"""The learner: gradient steps, targets, priorities, bad batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.config import NetworkConfig
from distdqn.types import Batch, EnvSpec, take
from tests.configs import network_config
from tests.learn.helpers import MLP, PIXELS, TABLE, VECTOR, assert_same, differ, make_learner, update

Make = Callable[..., Batch]
STATES = EnvSpec("states", (4,), "float32", 1, 3)


def table_batch(rows: list[tuple[int, int, float, int, bool]], weights: list[float] | None = None) -> Batch:
    """One-step windows of (state, action, reward, next state, terminal)."""
    count, eye = len(rows), np.eye(4, dtype=np.float32)
    state, action, reward, following, terminal = (np.array(x) for x in zip(*rows, strict=True))
    return Batch(
        frames=np.stack([eye[state], eye[following]], 1),
        steps={
            "action": action[:, None].astype(np.int64),
            "reward": reward[:, None].astype(np.float32),
            "terminated": terminal[:, None].astype(bool),
            "last": terminal[:, None].astype(bool),
            "age": np.zeros((count, 1), np.int32),
        },
        memory=np.zeros((count, 0), np.float32),
        importance=np.array(weights or [1.0] * count, np.float32),
        key=np.arange(count) + 50,
        origin=np.zeros((count, 6), np.int64),
        sizes=(count,),
    )


def test_one_step_on_a_table_by_hand() -> None:
    learner = make_learner(
        STATES,
        TABLE,
        optimizer="sgd",
        learning_rate=0.5,
        max_grad_norm=None,
        target_period=100,
        agent={"n_step": 1, "discount": 0.9, "bootstrap": "max", "loss": "squared", "reward": "none"},
    )
    table = np.arange(12, dtype=np.float32).reshape(3, 4) / 10  # Q(s, a) = table[a, s]
    (name,) = learner.online.arrays()
    learner.online.load_arrays({name: table})
    learner.target.load_arrays({name: 2 * table})
    # Q'(2, .) = 0.4, 1.2, 2.0 and Q(0, 1) = 0.4; Q(3, 2) = 1.1
    batch = table_batch([(0, 1, 3.0, 2, False), (3, 2, -5.0, 1, True)], weights=[1.0, 2.0])
    (priorities,), stats = update(learner, batch)
    errors = [3 + 0.9 * 2.0 - 0.4, -5 - 1.1]
    expected = table.copy()
    expected[1, 0] += 0.5 * (1 / 2) * errors[0] / 2  # step size, importance over the largest, mean of two rows
    expected[2, 3] += 0.5 * (2 / 2) * errors[1] / 2
    np.testing.assert_allclose(learner.weights().arrays[name], expected, rtol=1e-6)
    np.testing.assert_array_equal(learner.target.arrays()[name], 2 * table)
    np.testing.assert_array_equal(priorities.key, [50, 51])
    np.testing.assert_allclose(priorities.priority, np.abs(errors), rtol=1e-6)
    assert priorities.priority.dtype == np.float32
    loss = (0.5 * errors[0] ** 2 / 2 + errors[1] ** 2 / 2) / 2
    norm = np.hypot(0.5 * errors[0] / 2, errors[1] / 2)
    q_mean = (table[:, 0].mean() + table[:, 3].mean()) / 2
    got = (
        stats.metrics["loss"],
        stats.metrics["grad_norm"],
        stats.metrics["td_abs"],
        stats.metrics["q_mean"],
        stats.metrics["step_size"],
    )
    assert got == pytest.approx((loss, norm, np.abs(errors).mean(), q_mean, 0.5), rel=1e-5)
    assert (stats.version, stats.updates, stats.samples, stats.skipped, stats.aborted) == (1, 1, 2, 0, False)
    assert learner.weights().version == 1


@pytest.mark.parametrize("network", [TABLE, network_config(torso="mlp", hidden=(32,), dueling=True)])
def test_terminal_steps_are_learned_to_their_rewards(network: NetworkConfig) -> None:
    rewards = np.linspace(-2, 3, 12).reshape(4, 3)
    rows = [(s, a, float(rewards[s, a]), (s + 1) % 4, True) for s in range(4) for a in range(3)]
    learner = make_learner(
        STATES,
        network,
        optimizer="adam",
        epsilon=1e-8,
        learning_rate=0.02,
        target_period=5,
        agent={"n_step": 1, "reward": "none"},
    )
    for _ in range(600):
        (_, stats) = update(learner, table_batch(rows))
    q = learner.online(torch.eye(4))[0].q.detach().numpy()
    np.testing.assert_allclose(q, rewards, atol=0.05)
    assert stats.metrics["td_abs"] < 0.05


def test_a_chain_is_learned_through_the_target() -> None:
    """0 -> 1 -> 2 -> end with reward 1 at the end and discount 0.5: values 0.25, 0.5, 1."""
    rows = [(0, 0, 0.0, 1, False), (1, 0, 0.0, 2, False), (2, 0, 1.0, 3, True)]
    learner = make_learner(
        STATES, TABLE, optimizer="sgd", learning_rate=1.0, target_period=10, agent={"n_step": 1, "discount": 0.5}
    )
    for _ in range(400):
        update(learner, table_batch(rows))
    q = learner.online(torch.eye(4))[0].q.detach().numpy()
    np.testing.assert_allclose(q[:, 0], [0.25, 0.5, 1, 0], atol=1e-3)
    assert not q[:, 1:].any()


@pytest.mark.parametrize("spec", [VECTOR, PIXELS], ids=["vector", "pixels"])
def test_parts_of_two_shards_make_the_minibatches_of_one(make_batch: Make, spec: EnvSpec) -> None:
    whole = make_batch(spec, (6, 6), seed=1)
    first, second = [0, 1, 6, 7, 8, 9], [2, 3, 4, 5, 10, 11]
    parts = [
        Batch(**{**take(whole, np.array(rows)), "sizes": sizes}) for rows, sizes in ((first, (2, 4)), (second, (4, 2)))
    ]
    one, two = make_learner(spec), make_learner(spec)
    (priorities,), stats = update(one, whole)
    split_priorities, split_stats = update(two, *parts)
    assert_same(one.weights().arrays, two.weights().arrays)
    for got, rows in zip(split_priorities, (first, second), strict=True):
        np.testing.assert_array_equal(got.key, priorities.key[rows])
        np.testing.assert_array_equal(got.priority, priorities.priority[rows])
    assert replace(split_stats, seconds=0) == replace(stats, seconds=0)
    assert differ(make_learner(spec).weights().arrays, one.weights().arrays)


def test_one_call_of_three_minibatches_equals_three_calls(make_batch: Make) -> None:
    whole = make_batch(VECTOR, (3, 4, 5), seed=2)
    one, two = make_learner(), make_learner()
    (together,), stats = update(one, whole)
    assert (stats.updates, stats.samples, stats.version) == (3, 12, 3)
    alone = []
    for start, stop in ((0, 3), (3, 7), (7, 12)):
        part = Batch(**{**take(whole, slice(start, stop)), "sizes": (stop - start,)})
        alone.append(update(two, part)[0][0].priority)
    assert_same(one.weights().arrays, two.weights().arrays)
    np.testing.assert_array_equal(together.priority, np.concatenate(alone))


def test_target_by_period(make_batch: Make) -> None:
    learner = make_learner(target_period=3)
    assert_same(learner.online.arrays(), learner.target.arrays())
    copied = learner.online.arrays()
    for k in range(1, 8):
        update(learner, make_batch(VECTOR, (8,), seed=k))
        if k % 3 == 0:
            copied = learner.online.arrays()
        assert differ(learner.online.arrays(), copied) == (k % 3 != 0)
        assert_same(learner.target.arrays(), copied)


def test_target_by_polyak(make_batch: Make) -> None:
    learner = make_learner(target="polyak", target_tau=0.25)
    expected = learner.target.arrays()
    for k in range(4):
        update(learner, make_batch(VECTOR, (8,), seed=k))
        online = learner.online.arrays()
        expected = {n: t + 0.25 * (online[n] - t) for n, t in expected.items()}
        for name, array in learner.target.arrays().items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-7)
    assert differ(learner.online.arrays(), learner.target.arrays())


def test_polyak_averages_parameters_and_copies_statistics(make_batch: Make) -> None:
    network = network_config(torso="dqn_2013", hidden=(8,), normalize="batch")
    learner = make_learner(PIXELS, network, target="polyak", target_tau=0.25)
    update(learner, make_batch(PIXELS, (8,)))
    online, target = learner.online.arrays(), learner.target.arrays()
    statistics = {name for name in online if "running" in name}
    assert len(statistics) == 4
    fresh = make_learner(PIXELS, network).online.arrays()
    for name in statistics:
        np.testing.assert_array_equal(target[name], online[name])
        assert (online[name] != fresh[name]).any()
    assert (target["torso.layers.1.weight"] != online["torso.layers.1.weight"]).any()


def spoil(batch: Batch, row: int, value: float = np.nan) -> Batch:
    reward = batch.reward.copy()
    reward[row, 0] = value
    return replace(batch, steps=batch.steps | {"reward": reward})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_skipped(make_batch: Make, value: float) -> None:
    agent = {"reward": "none"}
    learner, other = make_learner(agent=agent), make_learner(agent=agent)
    good = make_batch(VECTOR, (4, 4), seed=1)
    bad = spoil(make_batch(VECTOR, (4, 4, 4), seed=2), row=5, value=value)
    update(learner, good)
    before, target = learner.state(), learner.target.arrays()
    (priorities,), stats = update(learner, bad)
    assert (stats.updates, stats.skipped, stats.aborted, stats.samples, stats.version) == (2, 1, False, 12, 4)
    np.testing.assert_array_equal(priorities.key, bad.key[[0, 1, 2, 3, 8, 9, 10, 11]])
    assert len(priorities.priority) == 8 and np.isfinite(priorities.priority).all()
    assert stats.bad_batch["origin"] == bad.origin[4:8].tolist()
    assert not np.isfinite(float(stats.bad_batch["loss"]))
    assert np.isfinite(
        [stats.metrics["loss"], stats.metrics["grad_norm"], stats.metrics["q_mean"], stats.metrics["td_abs"]]
    ).all()
    # as if the second minibatch had not been there
    rest = Batch(**{**take(bad, np.array([0, 1, 2, 3, 8, 9, 10, 11])), "sizes": (4, 4)})
    update(other, good)
    update(other, rest)
    assert_same(learner.weights().arrays, other.weights().arrays)

    learner.restore(before)
    alone = Batch(**{**take(bad, slice(4, 8)), "sizes": (4,)})
    (priorities,), stats = update(learner, alone)
    assert_same(learner.weights().arrays, before["online"])
    assert_same(learner.target.arrays(), target)
    assert (stats.updates, stats.skipped, stats.version, len(priorities.key)) == (0, 1, 2, 0)
    assert update(learner, good)[1].bad_batch == {}


def test_bad_rows_take_the_whole_minibatch_and_each_part_keeps_its_own(make_batch: Make) -> None:
    learner = make_learner(agent={"reward": "none"})
    one, two = make_batch(VECTOR, (2, 3), seed=1), make_batch(VECTOR, (4, 1), seed=2)
    (first, second), _ = update(learner, one, spoil(two, row=0))
    np.testing.assert_array_equal(first.key, one.key[2:])
    np.testing.assert_array_equal(second.key, two.key[4:])


def test_too_many_bad_batches_in_a_row_abort(make_batch: Make) -> None:
    learner = make_learner(agent={"reward": "none"}, max_bad_updates=3)
    good = make_batch(VECTOR, (4,), seed=1)
    bad = spoil(good, row=0)
    assert [update(learner, b)[1].aborted for b in (bad, bad, good, bad, bad, bad)] == [False] * 5 + [True]
    stats = update(learner, bad)[1]
    assert stats.aborted
    assert stats.bad_batch["origin"] == bad.origin.tolist()


def test_an_abort_is_not_undone_by_a_good_minibatch_of_the_same_call(make_batch: Make) -> None:
    learner = make_learner(agent={"reward": "none"}, max_bad_updates=2)
    batch = make_batch(VECTOR, (4, 4, 4), seed=1)
    stats = update(learner, spoil(spoil(batch, row=0), row=4))[1]
    assert (stats.skipped, stats.updates, stats.aborted) == (2, 1, True)
    learner = make_learner(agent={"reward": "none"}, max_bad_updates=2)
    stats = update(learner, spoil(spoil(batch, row=0), row=8))[1]
    assert (stats.skipped, stats.updates, stats.aborted) == (2, 1, False)


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [("constant", 0.5, 1.0), ("linear", 0.25, 0.75), ("cosine", 0.5, 0.5), ("inverse", 0.5, 1 / (1 + 0.5 * 4))],
)
def test_the_step_size_schedule_is_applied(make_batch: Make, schedule: str, progress: float, factor: float) -> None:
    settings: dict[str, Any] = {"optimizer": "sgd", "max_grad_norm": None}
    scheduled = make_learner(schedule=schedule, schedule_decay=0.5, learning_rate=0.2, **settings)
    constant = make_learner(learning_rate=0.2 * factor, **settings)
    scheduled.updates = 4
    batch = make_batch(VECTOR)
    assert update(scheduled, batch, progress=progress)[1].metrics["step_size"] == pytest.approx(0.2 * factor)
    update(constant, batch)
    assert_same(scheduled.weights().arrays, constant.weights().arrays)


@pytest.mark.parametrize("share", [0.1, 10.0])
def test_the_gradient_norm_is_clipped(make_batch: Make, share: float) -> None:
    batch = make_batch(VECTOR, seed=3)

    def moved(limit: float | None) -> tuple[np.ndarray, float]:
        learner = make_learner(optimizer="sgd", learning_rate=1.0, max_grad_norm=limit)
        before = learner.weights().arrays
        norm = update(learner, batch)[1].metrics["grad_norm"]
        after = learner.weights().arrays
        return np.concatenate([(after[n] - before[n]).ravel() for n in before]), norm

    free, norm = moved(None)
    assert np.linalg.norm(free) == pytest.approx(norm, rel=1e-4)
    clipped, reported = moved(share * norm)
    assert reported == pytest.approx(norm), "the norm before clipping is the figure"
    np.testing.assert_allclose(clipped, free * min(share, 1.0), rtol=1e-3, atol=1e-6)


def test_lag_is_counted_from_the_weights_that_acted(make_batch: Make) -> None:
    learner = make_learner()
    _, stats = update(learner, make_batch(VECTOR, (4, 4), version=0), make_batch(VECTOR, (2, 2), version=-3))
    assert stats.weights_lag == pytest.approx(2 - (8 * 0 + 4 * -3) / 12)


def test_equal_seeds_begin_alike(make_batch: Make) -> None:
    one, two, three = (make_learner(seed=s).weights().arrays for s in (4, 4, 5))
    assert_same(one, two)
    assert differ(one, three)


def test_contrast_is_measured_when_learning_starts(make_batch: Make) -> None:
    learner = make_learner(PIXELS, network_config(MLP, contrast=3.0))
    parts = [make_batch(PIXELS, (4, 2), seed=k) for k in (1, 2)]
    update(learner, *parts)
    mean = np.concatenate([p.frames for p in parts]).mean((0, 1)) / 255
    for network in (learner.online, learner.target):
        np.testing.assert_allclose(network.arrays()["mean_frame"], mean, rtol=1e-5)
    update(learner, make_batch(PIXELS, (4, 2), seed=3))
    np.testing.assert_allclose(learner.weights().arrays["mean_frame"], mean, rtol=1e-5)


def test_bfloat16_runs_and_stays_close(make_batch: Make) -> None:
    network = network_config(torso="dqn_2013", hidden=(16,), dueling=True)
    batch = make_batch(PIXELS, (16,), seed=1)
    exact, rounded = (make_learner(PIXELS, network, precision=p) for p in ("float32", "bfloat16"))
    assert rounded.online.bf16 and rounded.target.bf16 and not exact.online.bf16
    (one,), stats = update(exact, batch)
    (two,), rounded_stats = update(rounded, batch)
    assert all(a.dtype == np.float32 for a in rounded.weights().arrays.values())
    np.testing.assert_allclose(two.priority, one.priority, atol=0.05)
    assert (two.priority != one.priority).any()
    assert rounded_stats.metrics["loss"] == pytest.approx(stats.metrics["loss"], rel=0.05)


@pytest.mark.slow
def test_a_compiled_loss_gives_the_same_update(make_batch: Make) -> None:
    batches = [make_batch(VECTOR, (8, 8), seed=k) for k in range(2)]
    plain, compiled = (make_learner(compile=c, max_grad_norm=None, optimizer="sgd") for c in ("off", "on"))
    for batch in batches:
        (one,), _ = update(plain, batch)
        (two,), _ = update(compiled, batch)
        np.testing.assert_allclose(two.priority, one.priority, rtol=1e-4, atol=1e-5)
    for name, array in plain.weights().arrays.items():
        np.testing.assert_allclose(compiled.weights().arrays[name], array, rtol=1e-4, atol=1e-5)
