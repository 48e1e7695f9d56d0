"""Weight gradients computed on another thread: the same to the bit, and where they should be computed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distdqn.config import NetworkConfig
from distdqn.learn import weight_gradients
from distdqn.learn.pace import SideBySide
from distdqn.learn.weight_gradients import WeightGradients
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import network_config
from tests.learn.helpers import OPTIMISERS, PIXELS, assert_same, make_learner, update

SPEC = EnvSpec("pixels", (42, 42), "uint8", 2, 3)
NETWORKS = [
    network_config(torso="small", hidden=(64,)),
    network_config(torso="dqn_2013", hidden=(32, 16), dueling=True),
    network_config(torso="lenet", hidden=(16,), normalize="batch"),
    network_config(torso="impala", hidden=(16,), normalize="layer"),
    network_config(torso="impala", hidden=(16,), normalize="spectral", noisy=True),
    network_config(torso="small", hidden=(16,), head="implicit_quantile"),
]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # with more, PyTorch adds in another order
    with ThreadPoolExecutor(1, "aside", torch.set_num_threads, (1,)) as pool:
        yield pool
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def every_layer_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_gradients, "LEAST", 1)


def gradients(network: nn.Module, loss: Callable[[], Tensor], aside: WeightGradients | None = None) -> Any:
    network.zero_grad()
    torch.manual_seed(1)
    with aside or nullcontext():
        loss().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: f"{c.torso.kind}-{c.torso.normalize}-{c.head.kind}")
def test_they_are_the_same_bit_for_bit(config: NetworkConfig, bf16: bool, pool: ThreadPoolExecutor) -> None:
    torch.manual_seed(0)
    network = QNetwork(config, SPEC)
    network.eval()  # no running statistics that the first pass would change for the second
    network.bf16 = bf16
    frames = torch.randint(0, 255, (6, 2, 42, 42), dtype=torch.uint8)
    direction = torch.randn(6, 3)

    def loss() -> Tensor:
        return (network(frames)[0].q * direction).sum()

    expected = gradients(network, loss)
    aside = WeightGradients(network, pool.submit)
    found = gradients(network, loss, aside)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=0, msg=name)
    for name, parameter in network.named_parameters():
        assert parameter.grad is None or parameter.grad.stride() == parameter.stride(), name


def test_all_but_the_first_layer_are_computed_aside(pool: ThreadPoolExecutor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(72, 5))
    where: list[str] = []

    def submit(job: Callable[[], Any]) -> Future[Any]:
        def watched() -> Any:
            where.append(threading.current_thread().name)
            return job()

        return pool.submit(watched)

    aside = WeightGradients(network, submit)
    with aside:
        network(torch.randn(3, 1, 10, 10)).sum().backward()
    assert len(where) == 2 and all(name.startswith("aside") for name in where)
    assert all(p.grad is not None for p in network.parameters())


def test_what_is_there_already_is_added_to(pool: ThreadPoolExecutor) -> None:
    """A layer that is used twice, and one that a penalty has given a gradient already."""
    layer = nn.Linear(4, 4)
    x = torch.randn(3, 4, requires_grad=True)

    def loss() -> Tensor:
        return layer(layer(x)).square().sum() + layer.weight.square().sum()

    expected = gradients(layer, loss)
    found = gradients(layer, loss, WeightGradients(layer, pool.submit))
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_the_gradient_agrees_with_finite_differences(pool: ThreadPoolExecutor) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(18, 2)).double()
    x = torch.randn(2, 1, 5, 5, dtype=torch.float64)
    with WeightGradients(network, pool.submit):
        network(x).square().sum().backward()
    for parameter in network.parameters():
        at, step = tuple(0 for _ in parameter.shape), 1e-6
        assert parameter.grad is not None
        with torch.no_grad():
            parameter[at] += step
            more = network(x).square().sum()
            parameter[at] -= 2 * step
            less = network(x).square().sum()
            parameter[at] += step
        torch.testing.assert_close(parameter.grad[at], (more - less) / (2 * step), rtol=1e-5, atol=1e-7)


def test_an_error_on_the_other_thread_is_raised_here() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    failed: Future[Any] = Future()
    failed.set_exception(MemoryError("no memory for a gradient"))
    aside = WeightGradients(network, lambda job: failed)
    with pytest.raises(MemoryError, match="no memory"), aside:
        network(torch.randn(2, 3)).sum().backward()


def test_a_backward_pass_that_fails_leaves_nothing_behind(pool: ThreadPoolExecutor) -> None:
    layer, x = nn.Linear(3, 3), torch.randn(2, 3, requires_grad=True)

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            raise MemoryError("half-way")

    expected = gradients(layer, lambda: layer(x).sum())
    aside = WeightGradients(layer, pool.submit)
    with pytest.raises(MemoryError), aside:
        layer(Fails.apply(x)).sum().backward()
    found = gradients(layer, lambda: layer(x).sum(), aside)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_layers_that_learn_nothing_or_pad_otherwise_stay_as_they_are(pool: ThreadPoolExecutor) -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(32, 3)
    )
    network[0].weight.requires_grad_(False)
    x = torch.randn(2, 1, 6, 6)
    expected, plain = gradients(network, lambda: network(x).square().sum()), network(x)
    aside = WeightGradients(network, pool.submit)
    torch.testing.assert_close(network(x), plain, rtol=0, atol=0)
    found = gradients(network, lambda: network(x).square().sum(), aside)
    assert found.keys() == expected.keys() and "0.weight" not in found
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=0)


def test_a_copy_of_the_network_has_weights_of_its_own(pool: ThreadPoolExecutor) -> None:
    layer, x = nn.Linear(3, 3, bias=False), torch.randn(2, 3)
    WeightGradients(layer, pool.submit)
    other = copy.deepcopy(layer)
    nn.init.zeros_(other.weight)
    assert not other(x).any() and layer(x).any()


@pytest.mark.parametrize("optimizer", OPTIMISERS, ids=str)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_learner_learns_the_same(make_batch: Callable[..., Batch], optimizer: dict[str, Any], precision: str) -> None:
    network = network_config(torso="small", hidden=(8,))
    alone, beside = (
        make_learner(PIXELS, network, threads=t, precision=precision, l2=1e-3, **optimizer) for t in (1, 2)
    )
    assert not isinstance(alone.pace, SideBySide) and isinstance(beside.pace, SideBySide) and beside.pace.gradients
    for learner in (alone, beside):
        for call in range(2):
            update(learner, make_batch(PIXELS, (3,) * 4, seed=call))
    assert_same(alone.state(), beside.state())


@pytest.mark.parametrize(
    ("settings", "network", "shared"),
    [
        ({"compile": "auto"}, {}, True),
        ({"compile": "off"}, {}, True),
        ({"compile": "on"}, {}, False),
        ({"threads": 3}, {}, False),
        ({}, {"noisy": True}, False),
        ({}, {"normalize": "spectral"}, False),
    ],
)
def test_when_the_backward_pass_is_shared(settings: dict[str, Any], network: dict[str, Any], shared: bool) -> None:
    config = network_config(torso="small", hidden=(8,), **network)
    learner = make_learner(PIXELS, config, **{"threads": 2, **settings})
    assert (getattr(learner.pace, "gradients", None) is not None) == shared
