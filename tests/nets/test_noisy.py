"""Noisy layers: the equation, its noise, and who shares it."""

from __future__ import annotations

import pytest
import torch
import torch._dynamo.testing
from torch import Tensor, nn

from distdqn.nets.noisy import NoisyLinear, resample_noise

FEATURES, OUT, ROWS = 6, 4, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive(layer: NoisyLinear, x: Tensor, row: int) -> Tensor:
    """The paper's equations 9 to 11, with the noise written as a matrix, for one row."""
    epsilon = torch.outer(layer.noise_out[row], layer.noise_in[row])
    y = (layer.weight + layer.weight_sigma * epsilon) @ x
    return y + layer.bias + layer.bias_sigma * layer.noise_out[row]


def test_by_hand() -> None:
    layer = NoisyLinear(2, 1, 0.5)
    with torch.no_grad():
        for parameter, numbers in (
            (layer.weight, [[1.0, 2.0]]),
            (layer.weight_sigma, [[0.1, 0.2]]),
            (layer.bias, [3.0]),
            (layer.bias_sigma, [0.5]),
        ):
            parameter.copy_(torch.tensor(numbers))
    x = torch.tensor([[10.0, 100.0]])
    assert layer(x).item() == 1 * 10 + 2 * 100 + 3
    resample_noise(layer, 1, generator())
    layer.noise_in.copy_(torch.tensor([[2.0, -1.0]]))
    layer.noise_out.fill_(3.0)
    expected = (1 + 0.1 * 2 * 3) * 10 + (2 + 0.2 * -1 * 3) * 100 + 3 + 0.5 * 3
    assert layer(x).item() == pytest.approx(expected)


@pytest.mark.parametrize("rows", [1, ROWS])
@pytest.mark.parametrize("inner", [(), (3,)])
def test_rows_share_the_noise_or_have_their_own(rows: int, inner: tuple[int, ...]) -> None:
    layer = NoisyLinear(FEATURES, OUT, 0.5)
    resample_noise(layer, rows, generator())
    x = torch.randn(1, *inner, FEATURES).expand(ROWS, *inner, FEATURES)
    got = layer(x)
    for row in range(ROWS):
        for k, vector in enumerate(x[row].reshape(-1, FEATURES)):
            expected = naive(layer, vector, 0 if rows == 1 else row)
            torch.testing.assert_close(got[row].reshape(-1, OUT)[k], expected)
    assert torch.allclose(got[0], got[1], atol=1e-5) == (rows == 1)


def test_how_it_starts() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(100, 200, 0.4)
    assert torch.allclose(layer.weight_sigma, torch.tensor(0.4 / 10))
    assert torch.allclose(layer.bias_sigma, torch.tensor(0.4 / 10))
    for mean in (layer.weight, layer.bias):
        assert 0.9 / 10 < mean.detach().abs().max() <= 1 / 10
        assert float(mean.detach().std()) == pytest.approx(1 / 10 / 3**0.5, rel=0.1)
    x = torch.randn(3, 100)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_noise_has_the_moments_of_the_square_root_of_a_gaussian() -> None:
    layer = NoisyLinear(100_000, 1, 0.5)
    resample_noise(layer, 1, generator())
    noise = layer.noise_in
    # E f(x) = 0, E f(x)^2 = E |x| = sqrt(2 / pi), E f(x)^4 = E x^2 = 1
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.square().mean()) == pytest.approx((2 / torch.pi) ** 0.5, rel=0.02)
    assert float(noise.pow(4).mean()) == pytest.approx(1, rel=0.03)


def test_the_generator_decides_and_noise_is_not_saved() -> None:
    one, two = (nn.Sequential(NoisyLinear(FEATURES, OUT, 0.5), NoisyLinear(OUT, OUT, 0.5)) for _ in range(2))
    two.load_state_dict(one.state_dict())
    assert not [name for name in one.state_dict() if "noise" in name]
    x, rng = torch.randn(ROWS, FEATURES), generator(1)
    resample_noise(one, 1, rng)
    torch.manual_seed(5)  # the global generator has no part in it
    resample_noise(two, 1, generator(1))
    first = one(x)
    assert torch.equal(first, two(x))
    assert not torch.equal(one[1].noise_in, one[1].noise_out)
    resample_noise(one, 1, rng)
    assert not torch.equal(one(x), first)


def test_layers_are_silent_until_there_is_noise() -> None:
    network = nn.Sequential(NoisyLinear(FEATURES, OUT, 0.5), nn.ReLU(), NoisyLinear(OUT, OUT, 0.5))
    x = torch.randn(ROWS, FEATURES)
    mean = nn.functional.linear(x, network[0].weight, network[0].bias).relu()
    mean = nn.functional.linear(mean, network[2].weight, network[2].bias)
    assert torch.equal(network(x), mean)
    resample_noise(network, ROWS, generator())
    assert not torch.equal(network(x), mean)


def test_networks_without_noisy_layers_are_left_alone() -> None:
    network, rng = nn.Linear(FEATURES, OUT), generator()
    first, drawn = network(torch.ones(1, FEATURES)), rng.get_state()
    resample_noise(network, 1, rng)
    assert torch.equal(network(torch.ones(1, FEATURES)), first)
    assert torch.equal(rng.get_state(), drawn)


def test_gradients_of_the_sigmas_are_the_noise() -> None:
    layer = NoisyLinear(FEATURES, OUT, 0.5)
    resample_noise(layer, 1, generator())
    layer(torch.ones(1, FEATURES)).sum().backward()
    torch.testing.assert_close(layer.weight_sigma.grad, torch.outer(layer.noise_out[0], layer.noise_in[0]))
    torch.testing.assert_close(layer.bias_sigma.grad, layer.noise_out[0])
    assert torch.equal(layer.weight.grad, torch.ones(OUT, FEATURES))


def test_noise_drawn_in_inference_mode_serves_training_too() -> None:
    layer = NoisyLinear(FEATURES, OUT, 0.5)
    with torch.inference_mode():
        resample_noise(layer, ROWS, generator())
        layer(torch.ones(ROWS, FEATURES))
    resample_noise(layer, ROWS, generator(1))
    layer(torch.ones(ROWS, FEATURES)).sum().backward()
    assert layer.weight_sigma.grad.any()


def test_compiled_once_for_all_draws_and_under_bfloat16() -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    layer, rng, x = NoisyLinear(FEATURES, OUT, 0.5), generator(), torch.randn(ROWS, FEATURES)
    run = torch.compile(layer, backend=counter, dynamic=False)
    resample_noise(layer, 1, rng)
    places = layer.noise_in.data_ptr(), layer.noise_out.data_ptr()
    for _ in range(3):
        resample_noise(layer, 1, rng)
        assert (layer.noise_in.data_ptr(), layer.noise_out.data_ptr()) == places  # as a CUDA graph needs
        torch.testing.assert_close(run(x), layer(x))
    assert counter.frame_count == 1
    with torch.autocast("cpu", torch.bfloat16):
        rounded = run(x)
    assert not torch.equal(rounded, layer(x))
    torch.testing.assert_close(rounded.float(), layer(x), atol=0.03, rtol=0)
