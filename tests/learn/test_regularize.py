"""Penalties, resets, annealing and clipped gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distdqn.config import OptimizerConfig
from distdqn.learn.auxiliary import Penalty, weights_of
from distdqn.learn.learner import Learner
from distdqn.learn.objective import Horizon, horizon_at
from distdqn.learn.optimizer import clip_gradients
from distdqn.learn.target import shrink_and_perturb
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch
from tests.configs import network_config
from tests.learn.helpers import MLP, PIXELS, VECTOR, assert_same, make_learner, update

Make = Callable[..., Batch]
CONVOLUTIONAL = network_config(torso="dqn_2013", hidden=(8,), normalize="batch", contrast=2.0)


def test_penalty_by_hand() -> None:
    one, two = nn.Parameter(torch.tensor([[1.0, -2.0]])), nn.Parameter(torch.tensor([[-3.0], [0.5]]))
    value, _ = Penalty(OptimizerConfig(l1=0.1, l2=0.01)).loss(nn.ParameterList([one, two]), None)
    assert value is not None
    assert value.item() == pytest.approx(0.1 * (1 + 2 + 3 + 0.5) + 0.01 * (1 + 4 + 9 + 0.25))
    value.backward()
    assert two.grad is not None
    assert two.grad.flatten().tolist() == pytest.approx([-0.1 + 0.02 * -3, 0.1 + 0.02 * 0.5])


def test_biases_and_normalization_are_left_alone() -> None:
    network = QNetwork(network_config(torso="dqn_2013", normalize="layer", memory="gru", memory_size=4), PIXELS)
    ours = {id(p) for p in weights_of(network)}
    names = {name for name, p in network.named_parameters() if id(p) in ours}
    assert names == {name for name, p in network.named_parameters() if name.endswith("weight") and p.dim() > 1}
    assert {"torso.layers.1.weight", "memory.input.weight", "memory.recurrent.weight"} <= names
    assert "torso.layers.2.weight" not in names  # of the normalization
    network.requires_grad_(False)
    assert weights_of(network) == []


def test_the_learner_minimises_its_penalties(make_batch: Make) -> None:
    """Plain SGD: the weights differ from those without penalties by -lr (l1 sign w + 2 l2 w)."""
    settings: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 0.1, "max_grad_norm": None}
    one, two = make_learner(**settings), make_learner(l1=0.02, l2=0.3, **settings)
    before = one.weights().arrays
    for learner in (one, two):
        update(learner, make_batch(VECTOR))
    for name, w in before.items():
        pull = 0.02 * np.sign(w) + 2 * 0.3 * w if w.ndim > 1 else 0 * w
        moved = two.weights().arrays[name] - one.weights().arrays[name]
        np.testing.assert_allclose(moved, -0.1 * pull, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("keep", [0.0, 0.25, 1.0])
def test_shrink_and_perturb_by_hand(keep: float) -> None:
    network, fresh = QNetwork(CONVOLUTIONAL, PIXELS), QNetwork(CONVOLUTIONAL, PIXELS)
    network.mean_frame.fill_(0.5)
    before, new = network.arrays(), fresh.arrays()
    shrink_and_perturb(network, fresh, keep)
    for name, after in network.arrays().items():
        if name == "mean_frame":
            assert (after == 0.5).all()
        elif name.startswith("torso."):
            np.testing.assert_allclose(after, keep * before[name] + (1 - keep) * new[name], rtol=1e-5, atol=1e-7)
        else:
            np.testing.assert_array_equal(after, new[name], err_msg=name)
    assert any(n.startswith("torso.") for n in before) and any(n.startswith("head.") for n in before)


def test_memory_starts_anew_at_a_reset() -> None:
    config = network_config(torso="mlp", hidden=(4,), memory="lstm", memory_size=3)
    network, fresh = QNetwork(config, VECTOR), QNetwork(config, VECTOR)
    shrink_and_perturb(network, fresh, 0.5)
    assert_same(network.arrays(), fresh.arrays())


def flat(learner: Learner) -> dict[str, np.ndarray]:
    return learner.online.arrays()


def test_the_learner_resets_at_its_period(make_batch: Make) -> None:
    network = network_config(torso="dqn_2013", hidden=(8,))
    settings: dict[str, Any] = {"learning_rate": 1e-6, "target_period": 100, "reset_keep": 0.75}
    learner = make_learner(PIXELS, network, reset_period=3, **settings)
    never = make_learner(PIXELS, network, **settings)
    for k in range(1, 8):
        before, copied = flat(learner), learner.target.arrays()
        for each in (learner, never):
            update(each, make_batch(PIXELS, (4,), seed=k))
        after, due = flat(learner), k % 3 == 0
        head = np.abs(after["head.value.0.weight"] - before["head.value.0.weight"]).max()
        assert (head > 0.01) == due
        torso, old = (x["torso.layers.1.weight"] for x in (after, before))
        assert (np.abs(torso - old).max() > 1e-3) == due
        if due:  # with so small a step size it is keep theta + (1 - keep) phi, phi uniform within 1 / sqrt(fan-in)
            phi, bound = (torso - 0.75 * old) / 0.25, 1 / np.sqrt(2 * 8 * 8)
            assert np.abs(phi).max() < 1.01 * bound
            assert phi.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
            assert abs(np.corrcoef(phi.ravel(), old.ravel())[0, 1]) < 0.1
        if due:
            assert_same(learner.target.arrays(), after)
            moments = [x for own in learner.state()["optimizer"].values() for x in own.values()]
            assert moments and not any(x.any() for x in moments)
        else:
            assert_same(learner.target.arrays(), copied)
            steps = {float(m["step"]) for m in learner.state()["optimizer"].values()}
            assert steps == {k % 3}
        if k < 3:
            assert_same(after, flat(never))
    assert {float(m["step"]) for m in never.state()["optimizer"].values()} == {7}


def test_resets_do_not_repeat_themselves(make_batch: Make) -> None:
    learner = make_learner(reset_period=1)
    seen = []
    for k in range(2):
        update(learner, make_batch(VECTOR, seed=k))
        seen.append(flat(learner)["head.value.0.weight"])
    assert (seen[0] != seen[1]).mean() > 0.9


def test_n_and_the_discount_are_annealed_again_after_each_reset(make_batch: Make) -> None:
    agent = {"n_step": 8, "n_step_final": 2, "discount": 0.9, "discount_final": 0.99, "anneal_updates": 2}
    learner = make_learner(agent=agent, reset_period=4)
    used: list[Horizon] = []
    inner = learner.objective.prepare

    def prepare(batch: Any, horizon: Horizon, generator: torch.Generator) -> Any:
        used.append(horizon)
        return inner(batch, horizon, generator)

    learner.objective = learner.objective._replace(prepare=prepare)
    update(learner, make_batch(VECTOR, (2,) * 6, steps=8))
    # halfway: n = sqrt(8 * 2), the horizon 1 / (1 - discount) = sqrt(10 * 100)
    assert [h.n for h in used] == [8, 4, 2, 2, 8, 4]
    half = 1 - 1 / np.sqrt(10 * 100)
    assert [h.discount for h in used] == pytest.approx([0.9, half, 0.99, 0.99, 0.9, half])


def test_without_resets_n_is_annealed_once_and_without_finals_it_stays() -> None:
    learner = make_learner(agent={"n_step": 8, "n_step_final": 2, "discount": 0.9, "anneal_updates": 2})
    got = [horizon_at(learner.agent, number, None) for number in (0, 1, 2, 100)]
    assert [(h.n, round(h.discount, 9)) for h in got] == [(8, 0.9), (4, 0.9), (2, 0.9), (2, 0.9)]
    learner = make_learner(agent={"n_step": 3, "discount": 0.9, "discount_final": 0.0, "anneal_updates": 1})
    assert horizon_at(learner.agent, 5, None) == (3, pytest.approx(0.0))
    learner = make_learner(agent={"n_step": 3, "discount": 0.9})
    assert horizon_at(learner.agent, 5, None) == (3, 0.9)


@pytest.mark.parametrize("value", [None, 0.05])
@pytest.mark.parametrize("norm", [None, 0.1, 100.0])
def test_gradients_are_clipped_as_pytorch_clips_them(value: float | None, norm: float | None) -> None:
    learner = make_learner(max_grad_value=value, max_grad_norm=norm)
    random = torch.Generator().manual_seed(0)
    for p in learner.parameters:
        p.grad = torch.randn(p.shape, generator=random)
    theirs = [nn.Parameter(torch.zeros_like(p)) for p in learner.parameters]
    for p, q in zip(learner.parameters, theirs, strict=True):
        q.grad = p.grad.clone()  # type: ignore[union-attr]
    if value is not None:
        nn.utils.clip_grad_value_(theirs, value)
    total = nn.utils.clip_grad_norm_(theirs, norm if norm is not None else float("inf"))
    torch.testing.assert_close(clip_gradients(learner.config.optimizer, learner.parameters), total)
    for p, q in zip(learner.parameters, theirs, strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_gradients_are_clipped_by_value_in_an_update(make_batch: Make) -> None:
    learner = make_learner(network=MLP, optimizer="sgd", learning_rate=1.0, max_grad_norm=None, max_grad_value=1e-3)
    before = learner.weights().arrays
    stats = update(learner, make_batch(VECTOR))[1]
    moved = np.concatenate([(before[n] - a).ravel() for n, a in learner.weights().arrays.items()])
    assert np.abs(moved).max() == pytest.approx(1e-3, rel=1e-3)
    assert stats.metrics["grad_norm"] == pytest.approx(np.linalg.norm(moved), rel=1e-3)
