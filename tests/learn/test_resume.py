"""A learner that is put back into a state goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from distdqn.config import BonusConfig, NetworkConfig, SequenceConfig
from distdqn.learn.learner import Learner
from distdqn.types import Batch, EnvSpec, UpdateStats
from tests.configs import network_config
from tests.learn.helpers import MLP, OPTIMISERS, PIXELS, TABLE, VECTOR, assert_same, differ, make_learner, update

Make = Callable[..., Batch]


@pytest.mark.parametrize("optimizer", OPTIMISERS)
@pytest.mark.parametrize("spec", [VECTOR, PIXELS], ids=["vector", "pixels"])
def test_goes_on_from_a_state_bit_for_bit(make_batch: Make, spec: EnvSpec, optimizer: dict[str, Any]) -> None:
    network = network_config(MLP, contrast=2.0)
    settings: dict[str, Any] = {**optimizer, "target_period": 4, "schedule": "inverse", "schedule_decay": 0.1}
    batches = [make_batch(spec, (4, 4), seed=k) for k in range(6)]

    def go_on(learner: Learner) -> list[UpdateStats]:
        return [replace(update(learner, b)[1], seconds=0) for b in batches[3:]]

    learner = make_learner(spec, network, seed=1, **settings)
    for batch in batches[:3]:
        update(learner, batch)
    state = learner.state()
    expected = go_on(learner)
    other = make_learner(spec, network, seed=2, **settings)
    update(other, batches[5])
    other.restore(state)
    assert other.weights().version == 6
    assert_same(other.weights().arrays, state["online"])
    assert go_on(other) == expected
    assert_same(other.weights().arrays, learner.weights().arrays)
    assert_same(other.target.arrays(), learner.target.arrays())
    fresh = make_learner(spec, network, seed=2, **settings)
    assert go_on(fresh) != expected


def test_a_state_is_a_copy(make_batch: Make) -> None:
    learner = make_learner()
    update(learner, make_batch(VECTOR))
    state, weights = learner.state(), learner.weights()
    kept = {n: a.copy() for n, a in state["online"].items()}
    moments = state["optimizer"]["0"]["exp_avg"].copy()
    update(learner, make_batch(VECTOR, seed=1))
    assert_same(state["online"], kept)
    assert_same(weights.arrays, kept)
    np.testing.assert_array_equal(state["optimizer"]["0"]["exp_avg"], moments)
    assert differ(learner.weights().arrays, kept)


@pytest.mark.parametrize("network", [network_config(MLP, hidden=(17,)), network_config(MLP, dueling=False), TABLE])
def test_the_state_of_another_network_is_refused(make_batch: Make, network: NetworkConfig) -> None:
    learner, other = make_learner(), make_learner(network=network)
    update(learner, make_batch(VECTOR))
    with pytest.raises(ValueError, match="another network"):
        other.restore(learner.state())


SMALL = network_config(torso="dqn_2013", hidden=(8,))
RECURRENT = network_config(MLP, memory="gru", memory_size=6, previous=True)
NGU = BonusConfig(kind="ngu", mixtures=3, embedding=4)
# name: environment, network, agent, learner
KINDS: dict[str, tuple[EnvSpec, NetworkConfig, dict[str, Any], dict[str, Any]]] = {
    "noisy": (VECTOR, network_config(MLP, noisy=True), {}, {}),
    "dropout": (VECTOR, network_config(MLP, dropout=0.5), {}, {}),
    "implicit_quantile": (
        VECTOR,
        network_config(MLP, head="implicit_quantile", online_quantiles=4, target_quantiles=3, cosines=5),
        {},
        {},
    ),
    "categorical": (VECTOR, network_config(MLP, head="categorical", atoms=7, v_min=-3, v_max=3), {}, {}),
    "annealed": (VECTOR, MLP, {"n_step": 3, "n_step_final": 1, "discount_final": 0.5, "anneal_updates": 7}, {}),
    "reset": (VECTOR, MLP, {}, {"reset_period": 5, "optimizer": "adamw", "weight_decay": 0.1}),
    "augment": (PIXELS, SMALL, {}, {"augment": "both", "online_views": 2, "target_views": 2}),
    "autoencoder": (PIXELS, SMALL, {"auxiliary": "autoencoder"}, {"optimizer": "adamw"}),
    "batch_norm": (PIXELS, network_config(SMALL, normalize="batch"), {}, {"target": "polyak"}),
    "spectral_norm": (PIXELS, network_config(SMALL, normalize="spectral"), {}, {"target": "polyak"}),
    "novelty": (
        VECTOR,
        RECURRENT,
        {"bonus": NGU, "n_step": 2, "sequence": SequenceConfig(length=2)},
        {"l1": 1e-3, "l2": 1e-3},
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_learner_goes_on_bit_for_bit(make_batch: Make, name: str) -> None:
    """One learner all the way; another, of another seed and past, restored halfway. The state alone decides, with
    the seed of the run: random numbers of an update depend on that and on how many came before."""
    spec, network, agent, config = KINDS[name]

    def make(seed: int) -> Learner:
        learner = make_learner(spec, network, seed=seed, agent=agent, target_period=3, **config)
        learner.seed = 1
        return learner

    learner, other = make(1), make(2)
    memory, bonus = learner.online.state_size, name == "novelty"
    batches = [make_batch(spec, (4, 4), seed=k, memory=memory, bonus=bonus) for k in range(4)]
    if learner.online.context:
        for k, batch in enumerate(batches):
            batch.memory[:, -1] = np.arange(8) % 3
            batch.memory[:, -3] = k  # the previous action + 1
    for batch in batches[:2]:
        update(learner, batch)
    state = learner.state()
    update(other, batches[3])
    other.restore(state)
    for batch in batches[2:]:
        (one,), stats = update(learner, batch)
        (two,), again = update(other, batch)
        np.testing.assert_array_equal(one.priority, two.priority)
        assert replace(stats, seconds=0) == replace(again, seconds=0)
    assert learner.updates == 8
    assert_same(other.state(), learner.state())
    assert differ(learner.state()["online"], state["online"])


@pytest.mark.parametrize("name", ["noisy", "dropout", "implicit_quantile", "augment"])
def test_each_update_draws_its_own_random_numbers(make_batch: Make, name: str) -> None:
    spec, network, agent, config = KINDS[name]
    learner = make_learner(spec, network, agent=agent, **config)
    batch = make_batch(spec, (6,))
    state = learner.state()

    def priorities(updates: int, seed: int) -> list[float]:
        learner.restore({**state, "updates": updates})
        learner.seed = seed
        (got,), _ = update(learner, batch)
        return got.priority.tolist()

    first = priorities(0, 0)
    assert priorities(0, 0) == first
    assert priorities(1, 0) != first
    assert priorities(0, 1) != first
