"""Heads: shapes, the dueling identity, and the table."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distdqn.nets.head import DuelingHead, ScalarHead
from distdqn.nets.memory import NoMemory


@pytest.mark.parametrize("hidden", [(), (7,), (8, 5)])
@pytest.mark.parametrize("kind", [ScalarHead, DuelingHead])
def test_shapes(kind: type[nn.Module], hidden: tuple[int, ...]) -> None:
    head = kind(6, hidden, 3)
    assert head(torch.rand(4, 6)).shape == (4, 3)
    widths = {m.out_features for m in head.modules() if isinstance(m, nn.Linear)}
    assert widths == {*hidden, 3} | ({1} if kind is DuelingHead else set())


def test_dueling_by_hand() -> None:
    head = DuelingHead(1, (), 3)
    with torch.no_grad():
        for layer, weights in ((head.value[0], [[2.0]]), (head.advantage[0], [[1.0], [4.0], [7.0]])):
            layer.weight.copy_(torch.tensor(weights))
            layer.bias.zero_()
    # x = 10: V = 20, A = 10, 40, 70 with mean 40
    torch.testing.assert_close(
        head(torch.tensor([[10.0]])), torch.tensor([[20 + 10 - 40.0, 20.0, 20 + 70 - 40]])
    )


def test_dueling_mean_is_the_value_stream() -> None:
    torch.manual_seed(0)
    head = DuelingHead(5, (16,), 4)
    features = torch.randn(9, 5)
    q, value = head(features), head.value(features)
    torch.testing.assert_close(q.mean(-1, keepdim=True), value)
    torch.testing.assert_close((q - value).mean(-1), torch.zeros(9), atol=1e-6, rtol=0)
    # a shift of all advantages alike changes nothing
    with torch.no_grad():
        head.advantage[-1].bias.add_(3.0)
    torch.testing.assert_close(head(features), q)


def test_a_table_has_one_number_for_each_state_and_action() -> None:
    head = ScalarHead(5, (64,), 3, table=True)
    assert [tuple(p.shape) for p in head.parameters()] == [(3, 5)]
    table = torch.arange(15.0).reshape(3, 5)
    with torch.no_grad():
        head.value[0].weight.copy_(table)
    assert torch.equal(head(torch.eye(5)), table.T)


def test_no_memory_lets_features_through() -> None:
    memory, features = NoMemory(7), torch.rand(3, 7)
    assert (memory.size, memory.features, memory.initial(3).shape) == (0, 7, (3, 0))
    out, state = memory(features, memory.initial(3))
    assert torch.equal(out, features)
    assert state.shape == (3, 0)
    assert memory(features, None)[1] is None
