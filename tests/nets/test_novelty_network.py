"""The networks of the intrinsic reward: shapes, who learns from what, and copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from distdqn.config import BonusConfig
from distdqn.nets.novelty_network import Normalizer, NoveltyNetwork
from distdqn.types import EnvSpec

PIXELS = EnvSpec("pixels", (20, 16), "uint8", 3, 4)
VECTOR = EnvSpec("vector", (5,), "float32", 1, 3)
CONFIG = BonusConfig(kind="ngu", embedding=6)


def observations(spec: EnvSpec, count: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    if spec.pixels:
        return torch.from_numpy(rng.integers(0, 256, (count, *spec.observation_shape), np.uint8))
    return torch.from_numpy(rng.standard_normal((count, *spec.observation_shape), np.float32))


@pytest.mark.parametrize("spec", [PIXELS, VECTOR], ids=lambda spec: spec.name)
def test_shapes(spec: EnvSpec) -> None:
    network, x = NoveltyNetwork(CONFIG, spec), observations(spec, 7)
    embedding = network.embed(x)
    logits, error = network.action_logits(embedding, embedding.flip(0)), network.distillation_error(x)
    assert embedding.shape == (7, 6)
    assert logits.shape == (7, spec.num_actions)
    assert error.shape == (7,) and (error > 0).all()
    assert {embedding.dtype, logits.dtype, error.dtype} == {torch.float32}
    assert network.random[-1].out_features == network.predictor[-1].out_features == 4 * 6


def test_the_order_of_two_observations_matters() -> None:
    torch.manual_seed(0)
    network = NoveltyNetwork(CONFIG, VECTOR)
    one, two = network.embed(observations(VECTOR, 2)).split(1)
    assert not torch.allclose(network.action_logits(one, two), network.action_logits(two, one))


def test_each_loss_trains_its_own_networks() -> None:
    def trained(loss: Tensor) -> set[str]:
        network.zero_grad(set_to_none=True)
        loss.backward()
        return {n.split(".")[0] for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}

    network, x = NoveltyNetwork(CONFIG, VECTOR), observations(VECTOR, 8)
    assert trained(network.distillation_error(x).mean()) == {"predictor"}
    logits = network.action_logits(network.embed(x), network.embed(x + 1))
    assert trained(logits.square().mean()) == {"embedding", "inverse"}


def test_distillation_error_is_zero_where_the_predictor_is_the_random_network() -> None:
    network, x = NoveltyNetwork(CONFIG, VECTOR), observations(VECTOR, 8)
    network.predictor = network.random
    assert network.distillation_error(x).tolist() == [0.0] * 8
    # all outputs 2 apart: a mean square of 2^2
    network.predictor = torch.nn.Sequential(network.random, Plus(2.0))
    torch.testing.assert_close(network.distillation_error(x), torch.full((8,), 2.0**2))


class Plus(torch.nn.Module):
    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


def test_normalizer_by_hand() -> None:
    normalizer = Normalizer((2,))
    x = torch.tensor([[4.0, 7.0], [-9.0, 7.0]])
    assert torch.allclose(normalizer(x), torch.tensor([[4.0, 5.0], [-5.0, 5.0]]), atol=1e-4)  # 0 and 1 so far
    normalizer.measure(torch.tensor([[1.0, 7.0], [3.0, 7.0]]))
    # mean 2 and variance 1; the second never changed, so another value is as new as can be
    assert torch.allclose(normalizer(x), torch.tensor([[2.0, 0.0], [-5.0, 0.0]]), atol=1e-4)
    assert torch.allclose(normalizer(x + 1), torch.tensor([[3.0, 5.0], [-5.0, 5.0]]), atol=1e-4)


def test_normalizer_measures_the_whole_stream() -> None:
    normalizer, stream = Normalizer((3, 2)), np.random.default_rng(0).normal(5, 3, (100, 3, 2))
    for part in np.split(stream, [1, 2, 30, 31, 90]):
        normalizer.measure(torch.from_numpy(part.astype(np.float32)))
    np.testing.assert_allclose(normalizer.mean, stream.mean(0), rtol=1e-4)
    np.testing.assert_allclose(normalizer.variance, stream.var(0), rtol=1e-4)


@pytest.mark.parametrize("spec", [PIXELS, VECTOR], ids=lambda spec: spec.name)
def test_the_scale_of_the_inputs_does_not_matter(spec: EnvSpec) -> None:
    network, x = NoveltyNetwork(CONFIG, spec), observations(spec, 30)
    other = x // 2 * 2 if spec.pixels else x * 100 + 3
    half = other // 2 if spec.pixels else x
    network.measure(other)
    one = network.embed(other), network.distillation_error(other)
    network.load_state_dict(network.state_dict() | {"normalize.count": torch.tensor(0)})
    network.measure(half)
    two = network.embed(half), network.distillation_error(half)
    torch.testing.assert_close(one, two, rtol=0.02, atol=0.002)


def test_pixels_are_scaled_before_anything_is_measured() -> None:
    network, x = NoveltyNetwork(CONFIG, PIXELS), observations(PIXELS, 3)
    torch.testing.assert_close(network.embed(x), network.embedding(x / 255), rtol=1e-4, atol=1e-5)


def test_copies_carry_everything() -> None:
    network, other = NoveltyNetwork(CONFIG, PIXELS), NoveltyNetwork(CONFIG, PIXELS)
    x = observations(PIXELS, 5)
    network.measure(x)
    assert not torch.equal(network.distillation_error(x), other.distillation_error(x))
    arrays = network.arrays()
    for array in arrays.values():
        array.flags.writeable = False
    other.load_arrays(arrays)
    assert torch.equal(network.embed(x), other.embed(x))
    assert torch.equal(network.distillation_error(x), other.distillation_error(x))
    with torch.no_grad():
        network.predictor[-1].bias += 1
    assert (arrays["predictor.3.bias"] != network.arrays()["predictor.3.bias"]).all(), "a copy, not a view"


def test_another_network_is_refused() -> None:
    arrays = NoveltyNetwork(CONFIG, VECTOR).arrays()
    for config, spec in (CONFIG, PIXELS), (BonusConfig(embedding=7), VECTOR):
        with pytest.raises(ValueError, match=r"agent\.bonus or the environment differs"):
            NoveltyNetwork(config, spec).load_arrays(arrays)
