"""Memories: an unrolled window is the same as its steps, and an episode's start is a zero state."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distdqn.nets.memory import Memory, Transformer
from distdqn.nets.transformer import Block, Gate
from tests.configs import make_memory, network_config

D, UNITS = 3, 4
REMEMBERING = ("rnn", "gru", "lstm", "transformer")
KINDS = ("none", *REMEMBERING)


def memory_of(kind: str, steps: int = 3, layers: int = 2) -> Memory:
    """With random numbers for all parameters, also for those that start at zero."""
    torch.manual_seed(0)
    sizes = {"memory_size": UNITS, "memory_steps": steps, "memory_layers": layers, "memory_heads": 2}
    memory = make_memory(network_config(memory=kind, **sizes).memory, D)
    for parameter in memory.parameters():
        nn.init.normal_(parameter, std=0.7)
    return memory


def window(b: int, t: int, seed: int = 0) -> Tensor:
    """Features `[B, T, D]`."""
    return torch.randn(b, t, D, generator=torch.Generator().manual_seed(seed))


def never(b: int, t: int) -> Tensor:
    return torch.zeros(b, t, dtype=torch.bool)


def used(memory: Memory, b: int, steps: int = 2) -> Tensor:
    """A state that some steps have led to."""
    return memory.unroll(window(b, steps, 99), torch.zeros(b, memory.size), never(b, steps))[1].detach()


def loop(memory: Memory, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """What `unroll` promises: one step after the other, the state set to zero where an episode starts."""
    out = []
    for k in range(features.shape[1]):
        state = torch.where(start[:, k : k + 1], torch.zeros_like(state), state)
        step, state = memory(features[:, k], state)
        out.append(step)
    return torch.stack(out, 1), state


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(st.data())
def test_unroll_is_the_loop(kind: str, data: st.DataObject) -> None:
    memory = memory_of(kind, data.draw(st.integers(1, 6), "memory_steps"), data.draw(st.integers(1, 3), "layers"))
    b, t = data.draw(st.integers(1, 3), "B"), data.draw(st.integers(1, 9), "T")
    flags = data.draw(st.lists(st.booleans(), min_size=b * t, max_size=b * t), "start")
    start, features = torch.tensor(flags).view(b, t), window(b, t)
    state = used(memory, b, data.draw(st.integers(1, 7), "steps before"))
    one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    out, after = memory.unroll(one, state, start)
    expected, expected_after = loop(memory, other, state, start)
    assert out.shape == (b, t, memory.features) and after.shape == (b, memory.size)
    assert (out.dtype, after.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after, expected_after, atol=1e-5, rtol=1e-4)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 2, 6])
def test_a_window_in_two_pieces(kind: str, cut: int) -> None:
    memory, features, start = memory_of(kind), window(3, 7), never(3, 7)
    start[0, 4] = start[1, cut] = True
    whole, after = memory.unroll(features, used(memory, 3), start)
    first, state = memory.unroll(features[:, :cut], used(memory, 3), start[:, :cut])
    second, state = memory.unroll(features[:, cut:], state, start[:, cut:])
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(state, after)


@pytest.mark.parametrize("kind", REMEMBERING)
def test_a_start_is_a_zero_state(kind: str) -> None:
    memory, features, start = memory_of(kind), window(2, 6), never(2, 6)
    start[:, 2] = True
    out, after = memory.unroll(features, used(memory, 2), start)
    fresh, fresh_after = memory.unroll(features[:, 2:], torch.zeros(2, memory.size), never(2, 4))
    torch.testing.assert_close(out[:, 2:], fresh)
    torch.testing.assert_close(after, fresh_after)
    # and without the start the past does matter
    other = memory.unroll(features, used(memory, 2), never(2, 6))[0]
    assert not torch.isclose(other[:, 2:4], fresh[:, :2]).any()


@pytest.mark.parametrize("kind", REMEMBERING)
def test_gradients_go_through_time_and_stop_at_starts(kind: str) -> None:
    memory, start = memory_of(kind, steps=6), never(2, 6)
    start[1, 3] = True  # in the second row only
    features = window(2, 6).requires_grad_()
    state = used(memory, 2).requires_grad_()
    memory.unroll(features, state, start)[0][:, 4].sum().backward()
    reached = features.grad.ne(0).any(-1)
    assert reached.tolist() == [[True] * 5 + [False], [False] * 3 + [True, True, False]]
    assert state.grad.ne(0).any(-1).tolist() == [True, False]


@pytest.mark.parametrize(("kind", "oracle"), [("rnn", nn.RNN), ("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_cells_are_those_of_pytorch(kind: str, oracle: type[nn.RNNBase]) -> None:
    memory, reference = memory_of(kind), oracle(D, UNITS, batch_first=True)
    with torch.no_grad():
        reference.weight_ih_l0.copy_(memory.input.weight)
        reference.bias_ih_l0.copy_(memory.input.bias)
        reference.weight_hh_l0.copy_(memory.recurrent.weight)
        bias = memory.recurrent.bias
        reference.bias_hh_l0.copy_(bias if bias is not None else torch.zeros_like(reference.bias_hh_l0))
    features = window(2, 5)
    out, state = memory.unroll(features, torch.zeros(2, memory.size), never(2, 5))
    expected, last = reference(features)
    torch.testing.assert_close(out, expected)
    parts = last if kind == "lstm" else (last,)
    assert memory.size == len(parts) * UNITS
    torch.testing.assert_close(state, torch.cat([part[0] for part in parts], -1))


def test_no_memory_lets_features_through() -> None:
    memory, features = make_memory(network_config().memory, 7), torch.rand(3, 7)
    assert (memory.size, memory.features) == (0, 7)
    out, state = memory(features, torch.zeros(3, memory.size))
    assert torch.equal(out, features) and state.shape == (3, 0)
    assert memory(features, None)[1] is None


def test_gate_by_hand() -> None:
    gate = Gate(1)
    with torch.no_grad():
        gate.w.weight.copy_(torch.tensor([[0.1], [0.2], [0.3]]))
        gate.u.weight.copy_(torch.tensor([[0.4], [0.5]]))
        gate.u_h.weight.fill_(0.6)
    x, y = torch.tensor([2.0]), torch.tensor([3.0])
    r = torch.sigmoid(0.1 * y + 0.4 * x)
    z = torch.sigmoid(0.2 * y + 0.5 * x - 2)
    h = torch.tanh(0.3 * y + 0.6 * (r * x))
    torch.testing.assert_close(gate(x, y), (1 - z) * x + z * h)


def attend(block: Block, context: Tensor, query: int, keys: list[int]) -> Tensor:
    """One query's attention in a block `[W]`, from `context` `[K, W]`, written out."""
    normed = block.norms[0](context)
    q = block.query(normed[query]).view(block.heads, -1)
    key, value = block.key_value(normed).chunk(2, -1)
    heads = []
    for head in range(block.heads):
        width = q.shape[1]
        part = slice(head * width, (head + 1) * width)
        scores = [key[j, part] @ q[head] / width**0.5 + block.distance[query - j, head] for j in keys]
        weights = torch.stack(scores).softmax(0)
        heads.append(sum(w * value[j, part] for w, j in zip(weights, keys, strict=True)))
    return block.attended(torch.cat(heads))


def test_transformer_against_its_equations() -> None:
    steps, t = 3, 6
    memory = memory_of("transformer", steps, layers=1)
    assert isinstance(memory, Transformer)
    features, start = window(1, t), never(1, t)
    start[0, 3] = True
    got = memory.unroll(features, torch.zeros(1, memory.size), start)[0][0]
    block, x = memory.blocks[0], memory.input(features[0])
    seen = [[0], [0, 1], [0, 1, 2], [3], [3, 4], [3, 4, 5]]
    for k, keys in enumerate(seen):
        y = block.gates[0](x[k], F.relu(attend(block, x, k, keys)))
        expected = block.gates[1](y, F.relu(block.position_wise(block.norms[1](y))))
        torch.testing.assert_close(got[k], expected)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_how_far_a_transformer_sees(steps: int, layers: int) -> None:
    memory = memory_of("transformer", steps, layers)
    features = window(1, 8).requires_grad_()
    memory.unroll(features, torch.zeros(1, memory.size), never(1, 8))[0][:, 6].sum().backward()
    # each block reaches back steps - 1 further
    far = layers * (steps - 1)
    assert features.grad[0].ne(0).any(-1).tolist() == [6 - far <= k <= 6 for k in range(8)]


def test_transformer_state_holds_the_inputs_and_counts_them() -> None:
    memory = memory_of("transformer", steps=4, layers=2)
    assert memory.size == 2 * 3 * UNITS + 1
    state, features, first = torch.zeros(1, memory.size), window(1, 5), []
    for k in range(5):
        _, state = memory(features[:, k], state)
        first.append(memory.input(features[0, k]))
        assert state[0, -1] == min(k + 1, 3)
        inputs = state[0, :-1].view(2, 3, UNITS)[0]
        held = torch.stack([torch.zeros(UNITS)] * 3 + first)[-3:]
        torch.testing.assert_close(inputs, held)


def test_unreal_entries_of_a_state_do_not_matter() -> None:
    memory, features = memory_of("transformer", steps=3, layers=1), window(1, 2)
    state = used(memory, 1, steps=1)
    state[0, :UNITS] = 7.0  # the older of two entries, of which one is real
    out = memory.unroll(features, state, never(1, 2))[0]
    torch.testing.assert_close(out, memory.unroll(features, used(memory, 1, 1), never(1, 2))[0])


def test_a_new_transformer_is_nearly_linear() -> None:
    torch.manual_seed(0)
    memory = make_memory(network_config(memory="transformer", memory_size=64).memory, D)
    features = window(2, 30)
    out, x = memory.unroll(features, torch.zeros(2, memory.size), never(2, 30))[0], memory.input(features)
    # two gates with z about sigmoid(-2) = 0.12 leave (1 - 0.12)^2 = 0.78 of the stream
    share = (out * x).sum() / x.square().sum()
    assert 0.7 < share < 0.9
    assert (out - share * x).square().sum() < 0.05 * x.square().sum()


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_compiled(kind: str) -> None:
    torch._dynamo.reset()
    memory, features, start = memory_of(kind), window(2, 4), never(2, 4)
    start[0, 2] = True
    state = used(memory, 2)

    def loss(x: Tensor) -> Tensor:
        out, after = memory.unroll(x * 2, state, start)
        return out.square().sum() + after.square().sum()

    compiled = torch.compile(loss, backend="aot_eager", dynamic=False)
    one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
    for run, x in ((loss, one), (compiled, other)):
        run(x).backward()
    torch.testing.assert_close(one.grad, other.grad)
