"""The invariant: whatever ends in a stream, a sampled window gives what a naive list of transitions would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distdqn.act.actor import Actor
from distdqn.act.segmenter import Segmenter
from distdqn.algo.returns import n_step, transform_reward
from distdqn.config import ActorsConfig, EnvConfig, ReplayConfig
from distdqn.learn.minibatch import on_cpu, split_parts
from distdqn.learn.transitions import observations
from distdqn.nets.qnetwork import QNetwork
from distdqn.replay.shard import ReplayShard
from distdqn.types import Segment, Weights
from tests.configs import agent_config, network_config

Tell = Callable[..., Any]
GAMMA = 0.9
RUN = 77


@dataclass(frozen=True)
class Case:
    """A stream: the plots of each slot, T, L, S, rollouts, and the segments that the shard has room for."""

    plots: list[list[tuple[int, bool, frozenset[int]]]]
    starts: int
    horizon: int
    stack: int
    pixels: bool
    rollouts: int
    room: int
    clip: bool
    seed: int

    @property
    def slots(self) -> int:
        return len(self.plots)

    @property
    def length(self) -> int:
        return self.starts * self.rollouts


@st.composite
def cases(draw: st.DrawFn) -> Case:
    plot = st.tuples(st.integers(1, 8), st.booleans(), st.frozensets(st.integers(0, 7), max_size=3))
    starts = draw(st.integers(1, 8))
    slots, rollouts = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    pixels = draw(st.booleans())
    return Case(
        plots=[draw(st.lists(plot, min_size=1, max_size=5)) for _ in range(slots)],
        starts=starts,
        horizon=draw(st.integers(1, min(starts, 5))),
        stack=draw(st.integers(1, 4)) if pixels else 1,
        pixels=pixels,
        rollouts=rollouts,
        room=draw(st.integers(1, slots * rollouts + 2)),
        clip=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


EVERYTHING = Case(
    plots=[
        [(5, False, frozenset()), (4, True, frozenset({1})), (1, True, frozenset()), (7, False, frozenset({2, 3}))],
        [(1, False, frozenset()), (2, True, frozenset({1})), (8, True, frozenset())],
    ],
    starts=6,
    horizon=3,
    stack=3,
    pixels=True,
    rollouts=8,
    room=100,
    clip=True,
    seed=5,
)


def segments_of_the_segmenter(case: Case, env: Any) -> Iterator[Segment]:
    """The loop of `Segmenter`'s docstring, with random actions and values."""
    rng = np.random.default_rng(case.seed)
    segmenter = Segmenter(env.spec, env.reset(), case.starts, case.horizon)
    for rollout in range(case.rollouts):
        while not segmenter.full:
            action = rng.integers(0, 4, case.slots)
            segmenter.before(rng.random((case.slots, 4), np.float32), action)
            step = env.step(action)
            segmenter.history.push(step.frame, step.last)
            segmenter.after(step)
        s = segmenter.rollout()
        first = rollout * case.starts - case.horizon
        yield Segment(
            frames=s.frames.swapaxes(0, 1).copy(),
            steps={name: array.swapaxes(0, 1).copy() for name, array in s.steps.items()},
            valid=~s.dummy[: case.starts].T,
            memory=np.zeros((case.slots, 1, 0), np.float32),
            priority=np.ones((case.slots, case.starts), np.float32),
            origin=np.array([[RUN, 0, slot, first, rollout] for slot in range(case.slots)], np.int64),
        )
        segmenter.roll()


def segments_of_the_actor(case: Case, env: Any) -> Iterator[Segment]:
    """The actor itself; what its network is shown is checked on the way."""
    agent = agent_config(network=network_config(torso="mlp", hidden=(4,)), n_step=case.horizon)
    weights = QNetwork(agent.network, env.spec).arrays()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdqn.act.actor.make_env", lambda *_: env)
        actors = ActorsConfig(count=1, envs_per_actor=case.slots, rollout_steps=case.starts)
        actor = Actor(EnvConfig(), agent, actors, 0, case.seed, RUN)
    seen: list[np.ndarray] = []
    actor.policy.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].numpy().copy()))
    for rollout in range(case.rollouts):
        segment, stats = actor.rollout(Weights(rollout, weights))
        yield segment
        steps = range(rollout * case.starts, (rollout + 1) * case.starts)
        assert stats.steps == sum(env.story.real(slot, k) for slot in range(case.slots) for k in steps)
        assert stats.transitions == segment.valid.sum()
    for k, shown in enumerate(seen):
        for slot in range(case.slots):
            np.testing.assert_array_equal(shown[slot], env.story.observation(*env.story.place(slot, k)))


Source = Callable[[Case, Any], Iterator[Segment]]
Damage = Callable[[Segment], Segment]


def check(case: Case, tell: Tell, source: Source, damage: Damage = lambda s: s) -> None:
    """Plays the case, draws windows until all that the shard holds have come, and compares each."""
    env = tell(case.plots, case.length, pixels=case.pixels, stack=case.stack, seed=case.seed)
    story = env.story
    shard = ReplayShard(ReplayConfig(kind="uniform"), case.room * case.starts, case.starts, 3, case.seed)
    emitted: Counter[tuple[int, int]] = Counter()
    rows: list[set[tuple[int, int]]] = []
    for segment in source(case, env):
        segment = damage(segment)
        shard.add(segment)
        for row in range(len(segment)):
            slot, first = (int(x) for x in segment.origin[row, 2:4])
            starts = {(slot, first + int(t)) for t in np.nonzero(segment.valid[row])[0]}
            emitted.update(starts)
            rows.append(starts)

    complete = range(case.length - case.horizon)
    expected = {(slot, k) for slot in range(case.slots) for k in complete if story.real(slot, k)}
    assert emitted == Counter(expected), "every transition starts one window, and nothing else does"
    held = set().union(*rows[-case.room :])
    assert shard.stats().transitions == len(held)
    assert shard.stats().evicted == len(expected) - len(held)
    if not held:
        return

    batch, _ = shard.sample((30 * len(held),), beta=0.4)
    (minibatch,) = on_cpu(split_parts([batch]))
    target = n_step(
        transform_reward(minibatch.reward, "clip" if case.clip else "none"), minibatch.terminated, minibatch.last, GAMMA
    )
    s_tm1, s_t = observations(minibatch, target.steps, case.stack)
    starts_of_rows = [(int(o[2]), int(o[3] + o[5])) for o in batch.origin]
    assert set(starts_of_rows) == held, "every window is drawn sooner or later, and none that is not held"
    for (slot, k), row in dict(zip(starts_of_rows, range(len(batch)), strict=True)).items():
        window = story.window(slot, k, case.horizon, GAMMA, case.clip)
        where = f"slot {slot}, step {k}"
        np.testing.assert_array_equal(s_tm1[row].numpy(), window.observation, err_msg=where)
        assert minibatch.action[row, 0] == env.actions[k][slot], where
        assert target.returns[row].item() == pytest.approx(window.returns, abs=1e-5), where
        assert target.discount[row].item() == pytest.approx(window.discount, abs=1e-6), where
        if window.discount:
            assert target.steps[row] == window.steps, where
            np.testing.assert_array_equal(s_t[row].numpy(), window.bootstrap, err_msg=where)
        assert batch.origin[row, 0] == RUN
        assert batch.origin[row, 4] == (k + case.horizon) // case.starts


@settings(max_examples=150, deadline=None)
@example(case=EVERYTHING)
@example(case=replace(EVERYTHING, room=3))
@example(case=replace(EVERYTHING, starts=3))
@given(case=cases())
def test_segmenter(tell: Tell, case: Case) -> None:
    check(case, tell, segments_of_the_segmenter)


@settings(max_examples=100, deadline=None)
@example(case=EVERYTHING)
@example(case=replace(EVERYTHING, pixels=False, stack=1))
@given(case=cases())
def test_actor(tell: Tell, case: Case) -> None:
    check(case, tell, segments_of_the_actor)


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
        _alter("terminated", lambda x: np.roll(x, 1, 1)),
        _alter("age", lambda x: x + 1),
        _alter("age", lambda x: np.full_like(x, 100)),
        _alter("valid", np.ones_like),
        _alter("valid", lambda x: x & (np.arange(x.shape[1]) > 0)),
        _alter("frames", lambda x: np.roll(x, 1, 1)),
        _alter("frames", lambda x: x[::-1].copy()),
        _alter("reward", lambda x: np.roll(x, -1, 1)),
        _alter("action", lambda x: np.roll(x, 1, 1)),
        _alter("origin", lambda x: x + np.array([0, 0, 0, 1, 0])),
    ],
    ids=[
        "no terminal",
        "no last",
        "terminal late",
        "older",
        "no masks",
        "dummies",
        "first start lost",
        "frames late",
        "slots swapped",
        "rewards early",
        "actions late",
        "first step",
    ],
)
@pytest.mark.parametrize("source", [segments_of_the_segmenter, segments_of_the_actor])
def test_the_check_sees_damage(tell: Tell, source: Source, damage: Damage) -> None:
    check(EVERYTHING, tell, source)
    with pytest.raises(AssertionError):
        check(EVERYTHING, tell, source, damage)
