"""Initial priorities against a loop over arrays of any content."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.act.priorities import InitialPriorities
from distdqn.act.segmenter import Rollout
from distdqn.algo.exploration import ngu_mixture
from distdqn.config import AgentConfig, BonusConfig, SequenceConfig
from tests.configs import agent_config, make_head, network_config

SLOTS, ACTIONS = 2, 3


def random_steps(length: int, seed: int) -> Rollout:
    rng = np.random.default_rng(seed)
    shape = (length, SLOTS)
    last = rng.random(shape) < 0.2
    steps = {
        "action": rng.integers(0, ACTIONS, shape),
        "reward": rng.normal(size=shape).astype(np.float32) * 2,
        "terminated": rng.random(shape) < 0.2,
        "last": last,
        "age": np.where(np.roll(~last, 1, 0) & (rng.random(shape) < 0.9), 0, -1).astype(np.int32),
        "bonus": rng.random(shape).astype(np.float32),
    }
    return Rollout(
        frames=np.zeros((length, SLOTS, 1), np.float32),
        steps=steps,
        q=rng.normal(size=(*shape, ACTIONS)).astype(np.float32) * 3,
        memory=np.zeros((*shape, 0), np.float32),
    )


def naive_error(s: Rollout, k: int, slot: int, agent: AgentConfig, beta: float, discount: float) -> float:
    """|n-step TD error| of step k."""
    total, factor, m = 0.0, 1.0, 0
    for m in range(1, agent.n_step + 1):
        at = k + m - 1
        reward = float(s.reward[at, slot])
        reward = max(-1.0, min(1.0, reward)) if agent.reward == "clip" else reward
        total += factor * (reward + beta * float(s.bonus[at, slot]))
        factor = 0.0 if s.terminated[at, slot] else factor * discount
        if s.terminated[at, slot] or s.last[at, slot]:
            break
    bootstrap = factor * float(s.q[k + m, slot].max()) if factor else 0.0
    return abs(total + bootstrap - float(s.q[k, slot, s.action[k, slot]]))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    length=st.integers(1, 5),
    burn_in=st.integers(0, 5),
    overlap=st.integers(0, 4),
    n=st.integers(1, 4),
    n_final=st.sampled_from([None, 2, 6]),
    eta=st.sampled_from([0.0, 0.9, 1.0]),
    mixtures=st.sampled_from([0, 1, 2]),
    clip=st.booleans(),
)
def test_against_a_loop(
    seed: int,
    length: int,
    burn_in: int,
    overlap: int,
    n: int,
    n_final: int | None,
    eta: float,
    mixtures: int,
    clip: bool,
) -> None:
    burn_in, overlap = min(burn_in, length), min(overlap, length - 1)
    bonus: dict[str, Any] = {"kind": "ngu", "mixtures": mixtures, "discount_min": 0.8} if mixtures else {}
    agent = agent_config(
        network=network_config(torso="mlp", memory="rnn" if burn_in else "none"),
        sequence=SequenceConfig(length=length, burn_in=burn_in, overlap=overlap, eta=eta),
        bonus=BonusConfig(**bonus),
        n_step=n,
        n_step_final=n_final,
        discount=0.9,
        reward="clip" if clip else "none",
    )
    t = agent.sequence.stride * 5
    context = np.arange(SLOTS) % agent.contexts
    s = random_steps(t + agent.window, seed)
    betas, discounts = np.zeros(SLOTS), np.full(SLOTS, 0.9)
    if mixtures:
        betas, discounts = (np.asarray(x)[context] for x in ngu_mixture(mixtures, 0.3, 0.9, 0.8))
    valid, priority = InitialPriorities(agent, t, context, make_head(agent.network.head, 1, 2))(s)
    assert (valid.shape, valid.dtype, priority.shape, priority.dtype) == ((t, SLOTS), bool, (t, SLOTS), np.float32)
    for start in range(t):
        for slot in range(SLOTS):
            places = [k for k in range(start + burn_in, start + burn_in + length) if not s.dummy[k, slot]]
            assert valid[start, slot] == (start % agent.sequence.stride == 0 and len(places) > 0)
            if not valid[start, slot]:
                continue
            errors = [naive_error(s, k, slot, agent, betas[slot], discounts[slot]) for k in places]
            expected = eta * max(errors) + (1 - eta) * sum(errors) / len(errors)
            assert priority[start, slot] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_overflow_do_not_reach_the_shard(length: int, bad: float) -> None:
    agent = agent_config(network=network_config(torso="mlp"), sequence=SequenceConfig(length=length), n_step=2)
    s = random_steps(6 + agent.window, 0)
    s.q[2:5] = bad
    _, priority = InitialPriorities(agent, 6, np.zeros(SLOTS, np.int64), make_head(agent.network.head, 1, 2))(s)
    assert np.isfinite(priority).all() and (priority >= 0).all()
