"""Heads: the values that they give by hand, the dueling identity, precision, and the table."""

from __future__ import annotations

from math import cos, log, pi

import pytest
import torch
from torch import nn

from distdqn.config import HeadConfig
from distdqn.nets.heads import Head
from distdqn.nets.noisy import NoisyLinear, resample_noise
from tests.configs import make_head, network_config

B, F, A = 4, 6, 3
KINDS = {"scalar": None, "categorical": 5, "quantile": 7, "implicit_quantile": 2}
"""Numbers of each action that the heads of this page have."""


def config(head: str = "scalar", **kwargs) -> HeadConfig:
    sizes = {"atoms": 5, "v_min": -1.0, "v_max": 3.0, "quantiles": 7, "acting_quantiles": 2, "cosines": 3}
    return network_config(torso="mlp", head=head, **{"hidden": (8,), **sizes, **kwargs}).head


def fill(layer: nn.Module, weight: list, bias: list | None = None) -> None:
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias)) if bias else layer.bias.zero_()


@pytest.mark.parametrize("hidden", [(), (7,), (8, 5)])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_gradients(kind: str, dueling: bool, noisy: bool, hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    head = make_head(config(kind, hidden=hidden, dueling=dueling, noisy=noisy), F, A)
    resample_noise(head, 1, torch.Generator().manual_seed(0))
    q, dist, tau = head(torch.rand(B, F))
    assert (q.shape, q.dtype) == ((B, A), torch.float32)
    numbers = KINDS[kind]
    assert numbers == (None if dist is None else dist.shape[2])
    if dist is not None:
        assert (dist.shape, dist.dtype) == ((B, A, numbers), torch.float32)
    assert (tau is None) == (kind in ("scalar", "categorical"))
    if tau is not None:
        assert (tau.shape, tau.dtype) == ((B, numbers), torch.float32)
    q.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_scalar_by_hand() -> None:
    head = make_head(config(hidden=()), 2, 2)
    fill(head.value[0], [[1.0, 2.0], [3.0, 4.0]], [0.5, 0.25])
    q = head(torch.tensor([[10.0, 1.0]])).q
    assert q.tolist() == [[1 * 10 + 2 * 1 + 0.5, 3 * 10 + 4 * 1 + 0.25]]


def test_categorical_by_hand() -> None:
    head = make_head(config("categorical", hidden=(), atoms=3, v_min=-10.0, v_max=10.0), 1, 2)
    fill(head.value[0], [[0.0], [0.0], [log(2)], [0.0], [0.0], [0.0]])
    q, dist, _ = head(torch.ones(1, 1))
    # logits 0, 0, ln 2 are probabilities 1/4, 1/4, 2/4 of the returns -10, 0, 10; and a uniform action
    expected = torch.tensor([[[1 / 4, 1 / 4, 2 / 4], [1 / 3, 1 / 3, 1 / 3]]])
    torch.testing.assert_close(dist.exp(), expected)
    torch.testing.assert_close(q, torch.tensor([[-10 * 0.25 + 0 * 0.25 + 10 * 0.5, 0.0]]))


def test_quantiles_by_hand() -> None:
    head = make_head(config("quantile", hidden=(), quantiles=2), 1, 2)
    fill(head.value[0], [[1.0], [5.0], [2.0], [-4.0]])
    q, dist, tau = head(torch.tensor([[1.0], [10.0]]))
    assert dist.tolist() == [[[1, 5], [2, -4]], [[10, 50], [20, -40]]]
    assert q.tolist() == [[(1 + 5) / 2, (2 - 4) / 2], [(10 + 50) / 2, (20 - 40) / 2]]
    assert tau.tolist() == [[1 / 4, 3 / 4]] * 2


def test_implicit_quantiles_by_hand() -> None:
    head = make_head(config("implicit_quantile", hidden=(), cosines=3), 2, 1)
    fill(head.embedding, [[0.5, 2.0, 3.0], [-1.0, -1.0, 0.0]], [0.25, 0.0])
    fill(head.value[0], [[1.0, 10.0]], [0.125])
    tau = [0.2, 0.9]
    q, dist, got = head(torch.tensor([[7.0, 5.0]]), torch.tensor([tau]))

    def value(t: float) -> float:
        one = max(0.0, 0.5 * cos(0) + 2 * cos(pi * t) + 3 * cos(2 * pi * t) + 0.25)
        two = max(0.0, -cos(0) - cos(pi * t))
        return 1 * 7 * one + 10 * 5 * two + 0.125

    assert got.tolist() == [pytest.approx(tau)]
    assert dist[0, 0].tolist() == pytest.approx([value(0.2), value(0.9)], rel=1e-5)
    assert q.item() == pytest.approx((value(0.2) + value(0.9)) / 2, rel=1e-5)


def test_implicit_quantiles_of_each_row_belong_to_its_fractions() -> None:
    torch.manual_seed(0)
    head = make_head(config("implicit_quantile", dueling=True), F, A)
    features, tau = torch.rand(B, F), torch.rand(B, 5)
    dist = head(features, tau).dist
    for row in range(B):
        for k in range(5):
            alone = head(features[row : row + 1], tau[row : row + 1, k : k + 1])
            torch.testing.assert_close(dist[row, :, k], alone.q[0])
    midpoints = torch.tensor([1 / 4, 3 / 4]).expand(B, 2)  # acting_quantiles = 2
    fixed, given = head(features), head(features, midpoints)
    for a, b in zip(fixed, given, strict=True):
        torch.testing.assert_close(a, b)


def test_dueling_by_hand() -> None:
    head = make_head(config(hidden=(), dueling=True), 1, 3)
    fill(head.value[0], [[2.0]])
    fill(head.advantage[0], [[1.0], [4.0], [7.0]])
    # x = 10: V = 20, A = 10, 40, 70 with mean 40
    q = head(torch.tensor([[10.0]])).q
    torch.testing.assert_close(q, torch.tensor([[20 + 10 - 40.0, 20.0, 20 + 70 - 40]]))


def test_dueling_of_each_quantile_by_hand() -> None:
    head = make_head(config("quantile", hidden=(), quantiles=2, dueling=True), 1, 2)
    fill(head.value[0], [[2.0], [3.0]])
    fill(head.advantage[0], [[1.0], [4.0], [7.0], [8.0]])
    # the first quantiles' mean advantage is (1 + 7) / 2, the second ones' (4 + 8) / 2
    dist = head(torch.ones(1, 1)).dist
    assert dist.tolist() == [[[2 + 1 - 4, 3 + 4 - 6], [2 + 7 - 4, 3 + 8 - 6]]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_of_all_advantages_changes_nothing(kind: str) -> None:
    torch.manual_seed(0)
    head, features = make_head(config(kind, dueling=True), F, A), torch.randn(B, F)
    before = head(features)
    with torch.no_grad():
        head.advantage[-1].bias.add_(3.0)
    for a, b in zip(head(features), before, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        head.value[-1].bias.add_(3.0)
    # a shift of every return, or of every logit, which is none
    torch.testing.assert_close(head(features).q, before.q + (0 if kind == "categorical" else 3))


def test_categorical_is_a_distribution_within_the_support() -> None:
    head = make_head(config("categorical", v_min=2.0, v_max=5.0), F, A)
    q, dist, _ = head(100 * torch.randn(B, F))
    torch.testing.assert_close(dist.exp().sum(-1), torch.ones(B, A))
    assert (dist <= 0).all() and (q >= 2 - 1e-5).all() and (q <= 5 + 1e-5).all()
    assert head.support.tolist() == [2.0, 2.75, 3.5, 4.25, 5.0]


def test_a_table_has_one_number_for_each_state_and_action() -> None:
    head = make_head(network_config(torso="tabular", hidden=(64,)).head, 5, 3)
    assert [tuple(p.shape) for p in head.parameters()] == [(3, 5)]
    table = torch.arange(15.0).reshape(3, 5)
    with torch.no_grad():
        head.value[0].weight.copy_(table)
    assert torch.equal(head(torch.eye(5)).q, table.T)


def test_names_of_the_weights() -> None:
    names = set(make_head(config("scalar", dueling=True, hidden=(8, 8)), F, A).state_dict())
    streams = [f"{stream}.{n}." for stream in ("value", "advantage") for n in (0, 2, 4)]
    assert names == {s + kind for s in streams for kind in ("weight", "bias")}
    for kind in KINDS:  # supports, fractions and noise follow from the config
        saved = make_head(config(kind, noisy=True), F, A).state_dict()
        assert all(name.startswith(("value.", "embedding.")) for name in saved)


def test_noisy_layers_are_the_fully_connected_ones() -> None:
    head = make_head(config("implicit_quantile", noisy=True, noisy_sigma=0.3, hidden=(7, 9)), 4, A)
    noisy = [m for m in head.modules() if isinstance(m, NoisyLinear)]
    assert [tuple(m.weight.shape) for m in noisy] == [(7, 4), (9, 7), (A, 9)]
    assert [m for m in head.modules() if isinstance(m, nn.Linear)] == [head.embedding]
    torch.testing.assert_close(noisy[0].weight_sigma, torch.full((7, 4), 0.3 / 4**0.5))


@pytest.mark.parametrize("kind", KINDS)
def test_each_slot_explores_with_its_own_noise(kind: str) -> None:
    torch.manual_seed(0)
    head, features = make_head(config(kind, noisy=True), F, A), torch.rand(1, F).expand(B, F)
    resample_noise(head, B, torch.Generator().manual_seed(0))
    q = head(features).q
    assert not torch.isclose(q[0], q[1]).any()
    resample_noise(head, 1, torch.Generator().manual_seed(0))
    q = head(features).q
    torch.testing.assert_close(q[0], q[1])


def test_dropout_after_each_hidden_layer_in_updates_only() -> None:
    torch.manual_seed(0)
    head, features = make_head(config(dropout=0.5, hidden=(50, 50)), F, A), torch.rand(1, F)
    kinds = [nn.Linear, nn.ReLU, nn.Dropout]
    assert [type(m) for m in head.value] == [*kinds, *kinds, nn.Linear]
    assert not torch.equal(head(features).q, head(features).q)
    head.eval()
    assert torch.equal(head(features).q, head(features).q)
    assert nn.Dropout not in {type(m) for m in make_head(config(), F, A).modules()}


def everything(head: Head, features: torch.Tensor) -> torch.Tensor:
    """All numbers that a head gives, side by side."""
    return torch.cat([x.flatten() for x in head(features) if x is not None])


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_only_hidden_layers_are_rounded(kind: str, noisy: bool) -> None:
    torch.manual_seed(0)
    features = torch.rand(B, F)
    for hidden, exact in (((), kind != "implicit_quantile"), ((64,), False)):
        head = make_head(config(kind, dueling=True, noisy=noisy, hidden=hidden), F, A)
        resample_noise(head, 1, torch.Generator().manual_seed(0))
        want = everything(head, features)
        with torch.autocast("cpu", torch.bfloat16):
            got = everything(head, features)
        assert got.dtype == torch.float32
        assert torch.equal(got, want) == exact  # the cosine embedding is a hidden layer
        torch.testing.assert_close(got, want, atol=0.1, rtol=0)


@pytest.mark.parametrize("kind", ["categorical", "implicit_quantile"])
def test_compiles_with_autocast_inside(kind: str) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    head, features = make_head(config(kind, dueling=True, noisy=True), F, A), torch.rand(B, F)
    resample_noise(head, B, torch.Generator().manual_seed(0))

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return everything(head, x)

    compiled = torch.compile(run, backend="aot_eager", dynamic=False, fullgraph=True)
    torch.testing.assert_close(compiled(features), run(features), atol=1e-3, rtol=0)
