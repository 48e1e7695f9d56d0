"""On a CUDA device the learner does what it does on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.learn.auxiliary import Penalty
from distdqn.nets.heads import HEADS
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import network_config
from tests.learn.helpers import CUDA, OPTIMISERS, PIXELS, VECTOR, assert_same, make_learner, update
from tests.learn.test_program import AGENTS, batches

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
    values = {"v_min": -3.0, "v_max": 3.0} if head == "categorical" else {}
    network = network_config(torso="dqn_2013", hidden=(16,), head=head, **values)
    one, two = (make_learner(PIXELS, network, device="cuda", deterministic=True) for _ in range(2))
    for k in range(3):
        part = make_batch(PIXELS, (32, 32), seed=k)
        (a,), _ = update(one, part)
        (b,), _ = update(two, part)
        np.testing.assert_array_equal(a.priority, b.priority)
    assert_same(one.weights().arrays, two.weights().arrays)


@CUDA
@pytest.mark.parametrize("name", AGENTS)
def test_a_captured_update_is_the_one_made_step_by_step(make_batch: Make, name: str) -> None:
    settings = {**AGENTS[name], "device": "cuda", "deterministic": True}
    one, other = make_learner(**settings, capture="off"), make_learner(**settings)
    for batch in batches(make_batch, one, 4):
        (a,), stats = update(one, batch)
        (b,), others = update(other, batch)
        np.testing.assert_allclose(b.priority, a.priority, rtol=1e-3, atol=1e-4)
        assert others.metrics == pytest.approx(stats.metrics, rel=1e-3, abs=1e-4)
    assert other.program is not None and other.program.graphs and one.program is None
    for key, array in one.weights().arrays.items():
        np.testing.assert_allclose(other.weights().arrays[key], array, rtol=1e-3, atol=1e-4, err_msg=key)


@CUDA
def test_a_captured_update_that_is_not_finite_is_left_out(make_batch: Make) -> None:
    one, other = (make_learner(VECTOR, device="cuda", target_period=3, capture=how) for how in ("off", "auto"))
    for k, batch in enumerate(batches(make_batch, one, 4)):
        if k == 2:
            batch.reward[12] = np.nan
        (a,), stats = update(one, batch)
        (b,), others = update(other, batch)
        np.testing.assert_array_equal(a.key, b.key)
        assert stats.skipped == others.skipped == (k == 2)
    assert one.updates == other.updates == 15
    for key, array in one.weights().arrays.items():
        np.testing.assert_allclose(other.weights().arrays[key], array, rtol=1e-3, atol=1e-4, err_msg=key)


@CUDA
def test_the_host_waits_only_at_the_end_of_a_call(make_batch: Make) -> None:
    learner = make_learner(PIXELS, network_config(torso="dqn_2013", hidden=(16,)), device="cuda", target_period=3)
    first, second, third = batches(make_batch, learner, 3)
    update(learner, first)
    update(learner, second)
    assert learner.program is not None
    read = learner.program.read

    def waits() -> Any:
        torch.cuda.set_sync_debug_mode("default")
        return read()

    learner.program.read = waits  # type: ignore[method-assign]
    torch.cuda.set_sync_debug_mode("error")
    try:
        update(learner, third)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert learner.updates == 12


@CUDA
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("spec", [VECTOR, PIXELS], ids=["vector", "pixels"])
def test_resumed_it_goes_on_as_the_same_run(make_batch: Make, spec: EnvSpec, optimizer: str) -> None:
    network = network_config(torso="dqn_2013" if spec.pixels else "mlp", hidden=(16,), noisy=True)
    learner = make_learner(spec, network, device="cuda", deterministic=True, optimizer=optimizer)
    made = batches(make_batch, learner, 4)
    for batch in made[:2]:
        update(learner, batch)
    other = make_learner(spec, network, device="cuda", deterministic=True, optimizer=optimizer)
    other.restore(learner.state())
    for batch in made[2:]:
        update(learner, batch)
        update(other, batch)
    for key, array in learner.weights().arrays.items():
        np.testing.assert_allclose(other.weights().arrays[key], array, rtol=1e-3, atol=1e-4, err_msg=key)


@CUDA
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_compiled_it_makes_the_same_updates(make_batch: Make, optimizer: str) -> None:
    spec, network = EnvSpec("pixels", (84, 84), "uint8", 4, 6), network_config(torso="dqn_2015")
    settings: dict[str, Any] = {"device": "cuda", "optimizer": optimizer, "learning_rate": 1e-4}
    one, other = (make_learner(spec, network, compile=how, **settings) for how in ("off", "on"))
    for batch in batches(make_batch, one, 4):
        (a,), _ = update(one, batch)
        (b,), _ = update(other, batch)
        np.testing.assert_allclose(b.priority, a.priority, rtol=1e-2, atol=1e-2)
    assert one.program is not None and one.program.graphs and other.program is not None and other.program.graphs


@CUDA
def test_what_cannot_be_captured_is_made_step_by_step(
    make_batch: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = network_config(torso="mlp", hidden=(16,), noisy=True)
    one, other = (make_learner(VECTOR, network, device="cuda", capture=how, l2=0.01) for how in ("off", "auto"))
    whole = Penalty.loss

    def asks(self: Penalty, *arguments: Any) -> Any:
        loss, metrics = whole(self, *arguments)
        assert loss is not None and float(loss) > 0  # waits for the device
        return loss, metrics

    monkeypatch.setattr(Penalty, "loss", asks)
    for batch in batches(make_batch, one, 4):
        (a,), _ = update(one, batch)
        (b,), _ = update(other, batch)
        np.testing.assert_allclose(b.priority, a.priority, rtol=1e-3, atol=1e-4)
    assert other.program is None and other.updates == 16
    assert "cannot be captured" in capsys.readouterr().err
