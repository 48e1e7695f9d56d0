"""The window invariant for sequences: what the learner's loss is fed at each loss position is what a naive list of
transitions says, through actor, shard and the loss itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from distdqn.act.actor import Actor
from distdqn.config import ActorsConfig, AgentConfig, EnvConfig, ReplayConfig, SequenceConfig
from distdqn.learn.bellman import BOOTSTRAPS
from distdqn.learn.minibatch import on_cpu, split_parts
from distdqn.learn.objective import Horizon
from distdqn.learn.sequences import make_sequence_loss
from distdqn.nets.heads import Head, Values
from distdqn.nets.qnetwork import QNetwork
from distdqn.replay.shard import ReplayShard
from distdqn.types import Batch, Segment, Weights
from tests.configs import agent_config, network_config
from tests.learn.helpers import outcome

Tell = Callable[..., Any]
Damage = Callable[[Segment], Segment]
GAMMA = 0.9


@dataclass(frozen=True)
class Case:
    """A stream: the plots of each slot, strides of a segment, the window's parts, S, rollouts, and the segments that
    the shard has room for."""

    plots: list[list[tuple[int, bool, frozenset[int]]]]
    strides: int
    burn_in: int
    length: int
    overlap: int
    n: int
    stack: int
    pixels: bool
    rollouts: int
    room: int
    clip: bool
    seed: int

    @property
    def agent(self) -> AgentConfig:
        return agent_config(
            network=network_config(torso="mlp", hidden=(4,), memory="rnn", memory_size=2, previous=True),
            sequence=SequenceConfig(length=self.length, burn_in=self.burn_in, overlap=self.overlap),
            n_step=self.n,
            discount=GAMMA,
            bootstrap="max",
            reward="clip" if self.clip else "none",
        )

    @property
    def starts(self) -> int:
        """T, at least the window."""
        stride = self.length - self.overlap
        return stride * max(self.strides, -(-self.agent.window // stride))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    plot = st.tuples(st.integers(1, 8), st.booleans(), st.frozensets(st.integers(0, 7), max_size=3))
    length, pixels = draw(st.integers(2, 5)), draw(st.booleans())
    return Case(
        plots=[draw(st.lists(plot, min_size=1, max_size=5)) for _ in range(draw(st.integers(1, 2)))],
        strides=draw(st.integers(1, 4)),
        burn_in=draw(st.integers(0, length)),
        length=length,
        overlap=draw(st.integers(0, length - 1)),
        n=draw(st.integers(1, 4)),
        stack=draw(st.integers(1, 4)) if pixels else 1,
        pixels=pixels,
        rollouts=draw(st.integers(1, 5)),
        room=draw(st.integers(1, 8)),
        clip=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


EVERYTHING = Case(
    plots=[
        [(5, False, frozenset()), (4, True, frozenset({1})), (1, True, frozenset()), (7, False, frozenset({2, 3}))],
        [(1, False, frozenset()), (2, True, frozenset({1})), (8, True, frozenset())],
    ],
    strides=5,
    burn_in=2,
    length=4,
    overlap=2,
    n=3,
    stack=3,
    pixels=True,
    rollouts=5,
    room=100,
    clip=True,
    seed=5,
)


class Spy(QNetwork):
    """Values are the rows' numbers, so that a target says which observation it was bootstrapped from; what went in,
    previous actions and rewards included, is kept for each unroll."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.unrolled: list[SimpleNamespace] = []

    def _inputs(self, features: Tensor, action: Tensor, reward: Tensor, context: Tensor) -> Tensor:
        self.past = action, reward
        return super()._inputs(features, action, reward, context)

    def unroll(self, observation: Tensor, state: Tensor, start: Tensor, *rest: Any) -> tuple[Values, Tensor]:
        _, after = super().unroll(observation, state, start, *rest)
        action, reward = self.past
        self.unrolled.append(SimpleNamespace(observation=observation, state=state, action=action, reward=reward))
        rows = torch.arange(start.numel(), dtype=torch.float32)
        return Values(rows.unsqueeze(1).expand(-1, self.actions)), after


class Targets:
    """In place of `Bellman`: keeps what targets are made of and which values the loss is of."""

    def __init__(self, config: AgentConfig, head: Head) -> None:
        self.config, self.bootstrap = config, BOOTSTRAPS[config.bootstrap.kind](config.bootstrap)

    def reward(self, r_t: Tensor, *_: Any) -> Tensor:
        return r_t

    def target(self, r_t: Tensor, discount_t: Tensor, values: Values, selector: Any) -> Tensor:
        self.r_t, self.discount_t, self.bootstrapped = r_t, discount_t, values.q[:, 0].long()
        return r_t

    def loss(self, values: Values, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        self.chosen, self.action = values.q[:, 0].long(), action
        # the loss's own weight for each position: its gradient
        self.losses = torch.ones(len(action), requires_grad=True)
        return self.losses, self.losses.detach()


def fed(case: Case, env: Any, batch: Batch) -> tuple[Targets, Spy]:
    """Runs the loss on `batch` and gives what reached its collaborators."""
    made: list[Targets] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdqn.learn.sequences.Bellman", lambda *a: made.append(Targets(*a)) or made[-1])
        online, target = Spy(case.agent.network, env.spec), Spy(case.agent.network, env.spec)
        loss = make_sequence_loss(case.agent, case.stack, online, target)
    (minibatch,) = on_cpu(split_parts([batch]))
    outcome(loss, minibatch, Horizon(case.n, GAMMA), torch.Generator()).loss.backward()
    return made[0], online


def play(case: Case, env: Any) -> tuple[Actor, list[Segment], list[np.ndarray]]:
    """The actor's segments, and the states that its network was in before each step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdqn.act.actor.make_env", lambda *_: env)
        actors = ActorsConfig(count=1, envs_per_actor=env.num_slots, rollout_steps=case.starts)
        actor = Actor(EnvConfig(), case.agent, actors, 0, case.seed, 77)
    states: list[np.ndarray] = []
    actor.policy.network.register_forward_pre_hook(lambda _, inputs: states.append(inputs[1].numpy().copy()))
    weights = QNetwork(case.agent.network, env.spec).arrays()
    segments = []
    for rollout in range(case.rollouts):
        segment, stats = actor.rollout(Weights(rollout, weights))
        assert stats.transitions == segment.valid.sum() * (case.length - case.overlap)
        segments.append(segment)
    return actor, segments, states


def check(case: Case, tell: Tell, damage: Damage = lambda s: s) -> None:
    """Plays the case, draws windows until all that the shard holds have come, and compares each."""
    total, stride = case.starts * case.rollouts, case.length - case.overlap
    env = tell(case.plots, total, pixels=case.pixels, stack=case.stack, seed=case.seed)
    story, slots, window = env.story, env.num_slots, case.agent.window
    _, segments, states = play(case, env)

    def positions(slot: int, k: int) -> list[int]:
        """The transitions among the loss positions of the window from `k` on."""
        first = k + case.burn_in
        return [j for j in range(first, first + case.length) if story.real(slot, j)]

    shard = ReplayShard(ReplayConfig(kind="uniform"), case.room * case.starts, case.starts, 3, case.seed, stride)
    rows: list[set[tuple[int, int]]] = []
    for segment in map(damage, segments):
        stats = shard.add(segment)
        for row, valid in enumerate(segment.valid):
            slot, first = (int(x) for x in segment.origin[row, 2:4])
            rows.append({(slot, first + int(t)) for t in np.nonzero(valid)[0]})
    emitted = Counter(start for starts in rows for start in starts)
    expected = {(s, k) for s in range(slots) for k in range(-window, total - window, stride) if positions(s, k)}
    assert emitted == Counter(expected), "every stride-th step with a transition to learn from starts one window"
    if not case.overlap:
        learned = Counter((s, j) for s, k in emitted for j in positions(s, k))
        complete = range(total - window + case.burn_in)
        assert learned == Counter((s, j) for s in range(slots) for j in complete if story.real(s, j)), "each once"
    held = set().union(*rows[-case.room :])
    assert (stats.transitions, stats.added) == (len(held) * stride, len(expected) * stride)
    if not held:
        return

    batch, _ = shard.sample((12 * len(held),), beta=0.4)
    targets, online = fed(case, env, batch)
    body, given = online.unrolled[-1], online.unrolled[0].state
    later = window - case.burn_in + 1
    starts_of_rows = [(int(o[2]), int(o[3] + o[5])) for o in batch.origin]
    assert set(starts_of_rows) <= held
    real = [len(positions(*start)) for start in starts_of_rows]
    for (slot, k), row in dict(zip(starts_of_rows, range(len(batch)), strict=True)).items():
        where = f"slot {slot}, window from step {k}"
        before = states[k][slot] if k >= 0 else np.zeros(4, np.float32)
        np.testing.assert_allclose(given[row], before, atol=1e-6, err_msg=where)
        for u in range(case.length):
            p, j = row * case.length + u, k + case.burn_in + u
            assert targets.chosen[p] == row * later + u, where
            counted = story.real(slot, j)
            assert targets.losses.grad[p].item() == pytest.approx(counted / sum(real)), where
            if not counted:
                continue
            episode, i = story.place(slot, j)
            transition = story.window(slot, j, case.n, GAMMA, case.clip)
            np.testing.assert_array_equal(body.observation[row, u], transition.observation, err_msg=where)
            past = (env.actions[j - 1][slot] + 1, episode.reward[i - 1]) if i else (0, 0.0)
            assert (body.action[row, u].item(), body.reward[row, u].item()) == past, where
            assert targets.action[p] == env.actions[j][slot], where
            assert targets.r_t[p].item() == pytest.approx(transition.returns, abs=1e-5), where
            assert targets.discount_t[p].item() == pytest.approx(transition.discount, abs=1e-6), where
            if transition.discount:
                bootstrap = int(targets.bootstrapped[p]) - row * later
                assert bootstrap == u + transition.steps, where
                np.testing.assert_array_equal(body.observation[row, bootstrap], transition.bootstrap, err_msg=where)


@settings(max_examples=100, deadline=None)
@example(case=EVERYTHING)
@example(case=replace(EVERYTHING, room=3))
@example(case=replace(EVERYTHING, overlap=0, burn_in=0))
@example(case=replace(EVERYTHING, overlap=3, burn_in=4, n=1))
@given(case=cases())
def test_sequences(tell: Tell, case: Case) -> None:
    check(case, tell)


def _alter(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    def altered(s: Segment) -> Segment:
        changed = {name: change(getattr(s, name))}
        return replace(s, steps=s.steps | changed) if name in s.steps else replace(s, **changed)

    return altered


@pytest.mark.parametrize(
    "damage",
    [
        _alter("terminated", np.zeros_like),
        _alter("last", np.zeros_like),
        _alter("age", lambda x: np.where(x < 0, 1, x)),
        _alter("age", lambda x: np.where(x == 0, 1, x)),
        _alter("age", lambda x: np.where(x > 1, 1, x)),
        _alter("valid", np.ones_like),
        _alter("valid", lambda x: np.roll(x, 1, 1)),
        _alter("frames", lambda x: np.roll(x, 1, 1)),
        _alter("reward", lambda x: np.roll(x, -1, 1)),
        _alter("action", lambda x: np.roll(x, 1, 1)),
        _alter("memory", np.zeros_like),
        _alter("memory", lambda x: np.roll(x, 1, 1)),
        _alter("memory", lambda x: np.roll(x, 1, 0)),
    ],
    ids=[
        "no terminal",
        "no last",
        "no dummies",
        "no starts",
        "no masks",
        "all starts",
        "starts late",
        "frames late",
        "rewards early",
        "actions late",
        "no memory",
        "memory late",
        "slots swapped",
    ],
)
def test_the_check_sees_damage(tell: Tell, damage: Damage) -> None:
    with pytest.raises(AssertionError):
        check(EVERYTHING, tell, damage)
