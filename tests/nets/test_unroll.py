"""The network over time: step by step or in one piece, previous actions and rewards, contexts, restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from distdqn.nets.noisy import resample_noise
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec
from tests.configs import network_config

PIXELS = EnvSpec("pixels", (10, 8), "uint8", 2, 3)
VECTOR = EnvSpec("vector", (5,), "float32", 1, 3)
HEADS: dict[str, dict[str, Any]] = {
    "scalar": {"dueling": True},
    "categorical": {"atoms": 5, "v_min": -1.0, "v_max": 1.0},
    "quantile": {"quantiles": 4},
    "implicit_quantile": {"cosines": 6, "acting_quantiles": 3},
}
SLOTS, STEPS, FRACTIONS = 3, 9, 4


class Stream(NamedTuple):
    """Random steps of B slots, `[B, T, ...]`; `tau` is `[B, T, Z]`."""

    observation: Tensor
    start: Tensor
    action: Tensor
    reward: Tensor
    tau: Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads make networks this small twenty times slower where other work is going on."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(torso: str = "mlp", contexts: int = 1, **config: Any) -> QNetwork:
    torch.manual_seed(3)
    network = QNetwork(
        network_config(torso=torso, hidden=(7,), memory_size=8, memory_steps=4, memory_heads=2, **config),
        VECTOR if torso in ("mlp", "tabular") else PIXELS,
        contexts,
    )
    return network.eval()


def stream(network: QNetwork, steps: int = STEPS, seed: int = 0) -> Stream:
    rng = np.random.default_rng(seed)
    spec = PIXELS if hasattr(network.torso, "map_shape") else VECTOR
    shape = (SLOTS, steps, *spec.observation_shape)
    observation = rng.integers(0, 256, shape, np.uint8) if spec.pixels else rng.standard_normal(shape, np.float32)
    return Stream(
        torch.from_numpy(observation),
        torch.from_numpy(rng.random((SLOTS, steps)) < 0.25),
        torch.from_numpy(rng.integers(0, spec.num_actions, (SLOTS, steps))),
        torch.from_numpy(rng.standard_normal((SLOTS, steps), np.float32)),
        torch.from_numpy(rng.random((SLOTS, steps, FRACTIONS), np.float32)),
    )


def contexts_of(network: QNetwork) -> Tensor:
    return torch.arange(SLOTS) % network.contexts


@torch.no_grad()
def step_by_step(network: QNetwork, state: Tensor, s: Stream) -> tuple[list[Tensor | None], Tensor]:
    """What acting does: restart where an episode starts, one step, remember. Fields of the values `[B * T, ...]`."""
    made = []
    for t in range(s.start.shape[1]):
        state = torch.where(s.start[:, t, None], network.initial(contexts_of(network)), state)
        values, after = network(s.observation[:, t], state, s.tau[:, t])
        assert after is not None
        network.remember(after, s.action[:, t], s.reward[:, t])
        state = after
        made.append(values)
    fields = zip(*made, strict=True)
    return [None if f[0] is None else torch.stack(f, 1).flatten(0, 1) for f in fields], state


@torch.no_grad()
def in_one_piece(network: QNetwork, state: Tensor, s: Stream) -> tuple[list[Tensor | None], Tensor]:
    values, state = network.unroll(s.observation, state, s.start, s.action, s.reward, s.tau.flatten(0, 1))
    return list(values), state


def middle(network: QNetwork) -> Tensor:
    """States in the middle of episodes."""
    s = stream(network, steps=6, seed=1)
    return step_by_step(network, network.initial(contexts_of(network)), s)[1]


@pytest.mark.parametrize("contexts", [1, 3])
@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("memory", ["none", "rnn", "gru", "lstm", "transformer"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("torso", ["mlp", "small"])
def test_one_piece_is_step_by_step(torso: str, head: str, memory: str, previous: bool, contexts: int) -> None:
    network = make(torso, contexts, memory=memory, previous=previous, head=head, **HEADS[head])
    state, s = middle(network), stream(network)
    assert s.start.any() and not s.start.all()
    expected, after = step_by_step(network, state, s)
    got, got_after = in_one_piece(network, state, s)
    for name, x, y in zip(("q", "dist", "tau"), got, expected, strict=True):
        missing = {"scalar": ("dist", "tau"), "categorical": ("tau",)}.get(head, ())
        assert (x is None) == (y is None) == (name in missing)
        if x is not None and y is not None:
            torch.testing.assert_close(x, y, atol=2e-5, rtol=0, msg=name)
    torch.testing.assert_close(got_after, after, atol=2e-5, rtol=0)
    assert got_after.shape == (SLOTS, network.state_size)


@pytest.mark.parametrize("cut", [1, 4, 8])
@pytest.mark.parametrize("memory", ["none", "lstm", "transformer"])
def test_two_pieces_are_one(memory: str, cut: int) -> None:
    network = make(memory=memory, previous=True, contexts=3)
    state, s = middle(network), stream(network)
    (q, *_), after = in_one_piece(network, state, s)
    parts = []
    for rows in (slice(0, cut), slice(cut, STEPS)):
        (part, *_), state = in_one_piece(network, state, Stream(*(x[:, rows] for x in s)))
        parts.append(part.view(SLOTS, -1, 3))
    torch.testing.assert_close(torch.cat(parts, 1).flatten(0, 1), q, atol=1e-5, rtol=0)
    torch.testing.assert_close(state, after, atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory", ["none", "rnn", "gru", "lstm", "transformer"])
def test_an_episode_knows_nothing_of_the_one_before(memory: str) -> None:
    network = make(memory=memory, previous=True)
    s = stream(network)
    start = torch.zeros_like(s.start)
    start[:, 4] = True
    other = stream(network, seed=7)
    before = torch.arange(STEPS) < 4
    mixed = [torch.where(before.view(1, -1, *(1,) * (x.dim() - 2)), y, x) for x, y in zip(s, other, strict=True)]
    state = middle(network)

    def q(state: Tensor, x: Stream, start: Tensor) -> Tensor:
        values = in_one_piece(network, state, x._replace(start=start))[0][0]
        assert values is not None
        return values.view(SLOTS, STEPS, 3)

    one, two = q(state, s, start), q(torch.zeros_like(state), Stream(*mixed), start)
    torch.testing.assert_close(one[:, 4:], two[:, 4:], atol=1e-6, rtol=0)
    assert (one[:, :4] != two[:, :4]).any(-1).all()
    unlike = q(torch.zeros_like(state), Stream(*mixed), torch.zeros_like(start))
    assert (unlike[:, 4] != one[:, 4]).any(-1).all(), "without a start, what was before still counts"


def test_the_state_by_hand() -> None:
    network = make(memory="gru", previous=True, contexts=3)
    assert network.state_size == 8 + 2 + 1
    state = network.initial(torch.tensor([2, 0]))
    assert state.tolist() == [[0.0] * 10 + [2.0], [0.0] * 11]
    network.remember(state, torch.tensor([0, 2]), torch.tensor([-7.0, 0.5]))
    assert state[:, 8:].tolist() == [[1.0, -7.0, 2.0], [3.0, 0.5, 0.0]]
    assert not state[:, :8].any()
    # features | one-hot of the action, nothing for none | tanh of the reward | one-hot of the context
    inputs = network._inputs(torch.ones(2, 1), torch.tensor([0, 3]), torch.tensor([0.0, 0.5]), torch.tensor([2, 0]))
    assert inputs[0].tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert inputs[1].tolist() == pytest.approx([1, 0, 0, 1, float(np.tanh(0.5)), 1, 0, 0])


@pytest.mark.parametrize(("column", "value"), [(0, 2.0), (1, 0.7), (2, 2.0)])
def test_previous_action_reward_and_context_are_inputs(column: int, value: float) -> None:
    network, state = make(previous=True, contexts=3), torch.zeros(SLOTS, 3)
    observation = stream(network).observation[:, 0]
    other = state.clone()
    other[:, column] = value
    assert (network(observation, state)[0].q != network(observation, other)[0].q).any(-1).all()


def test_gradients_flow_through_time_but_not_past_a_start() -> None:
    network = make(memory="gru")
    s = stream(network)
    for begins in (False, True):
        observation = s.observation.clone().requires_grad_()
        start = torch.zeros_like(s.start)
        start[:, 5] = begins
        values, _ = network.unroll(observation, middle(network), start, s.action, s.reward)
        values.q.view(SLOTS, STEPS, 3)[:, -1].sum().backward()
        assert bool(observation.grad[:, :5].any()) != begins and observation.grad[:, 5:].any()


def test_arrays_carry_all_of_a_recurrent_noisy_network() -> None:
    one = make(
        "small", 3, memory="lstm", previous=True, head="categorical", noisy=True, contrast=5.0, **HEADS["categorical"]
    )
    torch.manual_seed(9)
    two = QNetwork(
        network_config(
            torso="small",
            hidden=(7,),
            memory_size=8,
            memory_steps=4,
            memory_heads=2,
            memory="lstm",
            previous=True,
            head="categorical",
            noisy=True,
            contrast=5.0,
            **HEADS["categorical"],
        ),
        PIXELS,
        3,
    ).eval()
    s, state = stream(one), middle(one)
    one.centre(s.observation)
    expected, after = in_one_piece(one, state, s)
    assert not torch.equal(in_one_piece(two, state, s)[0][0], expected[0])
    two.load_arrays(one.arrays())
    got, got_after = in_one_piece(two, state, s)
    assert all(torch.equal(x, y) for x, y in zip(got[:2], expected[:2], strict=True)) and torch.equal(got_after, after)
    for network in (one, two):
        resample_noise(network, 1, torch.Generator().manual_seed(0))
    assert torch.equal(in_one_piece(one, state, s)[0][0], in_one_piece(two, state, s)[0][0])
    assert not torch.equal(in_one_piece(one, state, s)[0][0], expected[0])
    with pytest.raises(ValueError, match="another network"):
        two.load_arrays(make("small", 1, memory="lstm", previous=True).arrays())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("memory", ["none", "gru", "transformer"])
def test_bfloat16_stays_close_over_time(head: str, memory: str) -> None:
    network = make("small", 3, memory=memory, previous=True, head=head, **HEADS[head])
    state, s = middle(network), stream(network)
    exact, exact_after = in_one_piece(network, state, s)
    network.bf16 = True
    for rounded, after in (in_one_piece(network, state, s), step_by_step(network, state, s)):
        assert not torch.equal(rounded[0], exact[0])
        for x, y in zip(rounded, exact, strict=True):
            if x is not None:
                assert x.dtype == torch.float32
                torch.testing.assert_close(x, y, atol=0.03, rtol=0)
        assert after.dtype == torch.float32
        torch.testing.assert_close(after, exact_after, atol=0.05, rtol=0)
