"""On a CUDA device the learner does what it does on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distdqn.nets.heads import HEADS
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import network_config
from tests.learn.helpers import CUDA, OPTIMISERS, PIXELS, VECTOR, assert_same, make_learner, update

Make = Callable[..., Batch]


@CUDA
@pytest.mark.parametrize("spec", [VECTOR, PIXELS], ids=["vector", "pixels"])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_cuda_gives_the_cpu_update(make_batch: Make, spec: EnvSpec, optimizer: dict[str, Any]) -> None:
    network = network_config(torso="dqn_2013" if spec.pixels else "mlp", hidden=(16,), dueling=True)
    cpu, cuda = (make_learner(spec, network, device=d, **optimizer) for d in ("cpu", "cuda"))
    assert_same(cpu.weights().arrays, cuda.weights().arrays)
    for k in range(2):
        parts = [make_batch(spec, (8, 3, 8), seed=10 * k + i) for i in range(2)]
        one, stats = update(cpu, *parts)
        two, cuda_stats = update(cuda, *parts)
        assert cuda_stats.metrics["loss"] == pytest.approx(stats.metrics["loss"], rel=1e-2)
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a.key, b.key)
            np.testing.assert_allclose(b.priority, a.priority, rtol=2e-2, atol=2e-2)
    for name, array in cpu.weights().arrays.items():
        np.testing.assert_allclose(cuda.weights().arrays[name], array, atol=5e-3, err_msg=name)
    state = cuda.state()
    cpu.restore(state)  # a state moves from one device to another
    cuda.restore(state)
    update(cpu, parts[0])
    update(cuda, parts[0])
    for name, array in cpu.weights().arrays.items():
        np.testing.assert_allclose(cuda.weights().arrays[name], array, atol=5e-3, err_msg=name)


@CUDA
def test_cuda_takes_bfloat16_for_pixels() -> None:
    auto = make_learner(PIXELS, device="cuda", precision="auto")
    assert auto.online.bf16
    assert not make_learner(VECTOR, device="cuda", precision="auto").online.bf16
    assert isinstance(auto.online, QNetwork)


@CUDA
@pytest.mark.parametrize("head", HEADS)
def test_in_lockstep_a_seed_gives_the_same_bits(make_batch: Make, head: str) -> None:
    network = network_config(torso="dqn_2013", hidden=(16,), head=head)
    one, two = (make_learner(PIXELS, network, device="cuda", deterministic=True) for _ in range(2))
    for k in range(3):
        part = make_batch(PIXELS, (32, 32), seed=k)
        (a,), _ = update(one, part)
        (b,), _ = update(two, part)
        np.testing.assert_array_equal(a.priority, b.priority)
    assert_same(one.weights().arrays, two.weights().arrays)
