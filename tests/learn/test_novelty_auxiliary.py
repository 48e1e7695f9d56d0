"""What novelty is measured with is learned: inverse dynamics and distillation on problems of known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distdqn.config import BonusConfig
from distdqn.learn.novelty_auxiliary import NoveltyAuxiliary
from distdqn.types import EnvSpec

RING = EnvSpec("ring", (8,), "float32", 1, 3)
PIXELS = EnvSpec("pixels", (12, 12), "uint8", 2, 3)
CONFIG = BonusConfig(kind="ngu", embedding=8, learning_rate=3e-3)
Transitions = tuple[Tensor, Tensor, Tensor, Tensor]


def ring(rng: np.random.Generator, count: int = 64) -> Transitions:
    """One-hot places on a ring of 8; action 0, 1, 2 moves by -1, 0, 1."""
    place, action = rng.integers(0, 8, count), rng.integers(0, 3, count)
    x, y = (torch.eye(8)[torch.from_numpy(p)] for p in (place, (place + action - 1) % 8))
    return x, torch.from_numpy(action), y, torch.ones(count, dtype=torch.bool)


def pixels(rng: np.random.Generator, count: int = 16) -> Transitions:
    x, y = (torch.from_numpy(rng.integers(0, 256, (count, 2, 12, 12), np.uint8)) for _ in range(2))
    return x, torch.from_numpy(rng.integers(0, 3, count)), y, torch.from_numpy(rng.random(count) < 0.8)


def equal(one: dict, two: dict) -> bool:
    """Exact equality of nested states."""
    if one.keys() != two.keys():
        return False
    return all(equal(v, two[k]) if isinstance(v, dict) else np.array_equal(v, two[k]) for k, v in one.items())


def test_inverse_dynamics_learns_how_the_ring_moves() -> None:
    learner, rng = NoveltyAuxiliary(CONFIG, RING, 0), np.random.default_rng(0)
    figures = [learner.update(*ring(rng)) for _ in range(150)]
    assert figures[0]["inverse_loss"] == pytest.approx(np.log(3), rel=0.15)  # of three actions, before learning
    assert figures[-1]["inverse_loss"] < 0.05
    assert figures[-1]["inverse_accuracy"] == 1.0
    x, action, y, _ = ring(np.random.default_rng(1), 500)
    logits = learner.network.action_logits(learner.network.embed(x), learner.network.embed(y))
    assert (logits.argmax(-1) == action).all()


def test_distillation_error_falls_on_what_was_seen_and_stays_on_what_was_not() -> None:
    learner, rng = NoveltyAuxiliary(CONFIG, RING, 0), np.random.default_rng(0)
    x = torch.from_numpy(rng.standard_normal((64, 8), np.float32))
    seen, unseen = x.clone(), x.clone()
    seen[:, 0], unseen[:, 0] = x[:, 0].abs(), -x[:, 0].abs() - 1
    with torch.no_grad():
        before = learner.network.distillation_error(seen).mean()
        for _ in range(300):
            rows = torch.from_numpy(rng.integers(0, 64, 64))
            with torch.enable_grad():
                learner.update(seen[rows], rows % 3, seen[rows], torch.ones(64, dtype=torch.bool))
        after, novel = (learner.network.distillation_error(o).mean() for o in (seen, unseen))
    assert after < 0.1 * before
    assert novel > 5 * after


def test_figures_are_those_of_the_valid_rows_before_the_step() -> None:
    learner, batch = NoveltyAuxiliary(CONFIG, PIXELS, 0), pixels(np.random.default_rng(0))
    x, action, y, mask = batch
    assert 0 < mask.sum() < len(mask)
    network = NoveltyAuxiliary(CONFIG, PIXELS, 0).network
    network.measure(y[mask])
    p = network.action_logits(network.embed(x[mask]), network.embed(y[mask])).softmax(-1)
    got = learner.update(*batch)
    assert got["inverse_loss"] == pytest.approx(-float(p.gather(1, action[mask, None]).log().mean().detach()), rel=1e-5)
    assert got["inverse_accuracy"] == pytest.approx(float((p.argmax(1) == action[mask]).float().mean()))
    assert got["distillation_error"] == pytest.approx(
        float(network.distillation_error(y[mask]).mean().detach()), rel=1e-5
    )


def test_masked_rows_change_nothing() -> None:
    one, two = (NoveltyAuxiliary(CONFIG, RING, 0) for _ in range(2))
    x, action, y, mask = ring(np.random.default_rng(0))
    mask[::3] = False
    one.update(x, action, y, mask)
    two.update(*(torch.where(mask.view(-1, *[1] * (v.ndim - 1)), v, 2) for v in (x, action, y)), mask)
    assert equal(one.state(), two.state())
    before = one.state()
    assert one.update(x, action, y, torch.zeros_like(mask)) == {}
    assert equal(one.state(), before)


def test_the_first_step_has_the_step_size() -> None:
    learner = NoveltyAuxiliary(CONFIG, RING, 0)
    before = learner.network.arrays()["inverse.2.bias"]
    learner.update(*ring(np.random.default_rng(0)))
    # Adam's moments of one gradient g: g / sqrt(g^2) = +-1
    np.testing.assert_allclose(np.abs(learner.network.arrays()["inverse.2.bias"] - before), 3e-3, rtol=1e-2)


def test_the_random_network_never_changes() -> None:
    learner, rng = NoveltyAuxiliary(CONFIG, PIXELS, 0), np.random.default_rng(0)
    before = learner.network.arrays()
    learner.update(*pixels(rng))
    changed = {k.split(".")[0] for k, v in learner.network.arrays().items() if (v != before[k]).any()}
    assert changed == {"normalize", "embedding", "inverse", "predictor"}


def test_a_largest_factor_of_one_switches_distillation_off() -> None:
    learner = NoveltyAuxiliary(BonusConfig(embedding=8, lifelong_max=1.0), RING, 0)
    before = learner.network.arrays()
    assert learner.update(*ring(np.random.default_rng(0)))["distillation_error"] == 0
    after = learner.network.arrays()
    assert all((after[k] == v).all() for k, v in before.items() if k.startswith("predictor"))
    other = NoveltyAuxiliary(BonusConfig(embedding=8, lifelong_max=1.0), RING, 1)
    other.restore(learner.state())
    assert equal(other.state(), learner.state())


@pytest.mark.parametrize(("spec", "batch"), [(RING, ring), (PIXELS, pixels)], ids=["ring", "pixels"])
def test_a_restored_learner_goes_on_bit_for_bit(spec: EnvSpec, batch) -> None:
    one, other = NoveltyAuxiliary(CONFIG, spec, 0), NoveltyAuxiliary(CONFIG, spec, 1)
    rng = np.random.default_rng(0)
    for _ in range(3):
        one.update(*batch(rng))
    state = one.state()
    other.restore(state)
    assert equal(other.state(), state)
    for _ in range(3):
        transitions = batch(rng)
        one.update(*transitions)
        other.update(*transitions)
    assert equal(one.state(), other.state())
    assert not equal(one.state(), state)


def test_another_networks_state_is_refused() -> None:
    with pytest.raises(ValueError, match="another network"):
        NoveltyAuxiliary(CONFIG, RING, 0).restore(NoveltyAuxiliary(CONFIG, PIXELS, 0).state())


def test_a_seed_reproduces_and_leaves_others_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = (NoveltyAuxiliary(CONFIG, RING, seed) for seed in (0, 0, 1))
    for learner in (one, same, other):
        learner.update(*ring(np.random.default_rng(0)))
    assert torch.equal(torch.rand(1), expected)
    assert equal(one.state(), same.state())
    assert not equal(one.state(), other.state())
