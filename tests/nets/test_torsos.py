"""Torsos for any frame size, with every option."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distdqn.nets.torso import CONVOLUTIONAL, Convolutions, SpectralConv2d, Torso, convolve_folded, folds, make_torso
from tests.configs import network_config

NORMALISATIONS = ["none", "batch", "layer", "spectral"]
SIZES = [(10, 5), (20, 20), (36, 36), (42, 42), (84, 84), (210, 160), (7, 100), (1, 1)]
# convolutions (channels, kernel, stride) and the max pooling after each; the smallest side, from the last layer back:
LAYERS = {
    "dqn_2013": ([(16, 8, 4), (32, 4, 2)], 1, (4 - 1) * 4 + 8),  # 1, 4, 20
    "dqn_2015": ([(32, 8, 4), (64, 4, 2), (64, 3, 1)], 1, (8 - 1) * 4 + 8),  # 1, 3, 8, 36
    "small": ([(16, 4, 2), (32, 4, 2), (32, 3, 2)], 1, (8 - 1) * 2 + 4),  # 1, 3, 8, 18
    "lenet": ([(16, 5, 1), (32, 5, 1)], 2, 2 * 6 + 4),  # 1, 2, 6, 12, 16
}


def torso_of(name: str, shape: tuple[int, ...], **options: object) -> Torso:
    torch.manual_seed(0)
    return make_torso(network_config(torso=name, **options).torso, shape)


def side_after(name: str, side: int) -> int:
    if name == "impala":  # three poolings that round halves up
        return -(-side // 8)
    layers, pool, least = LAYERS[name]
    side = max(side, least)
    for _, kernel, stride in layers:
        side = ((side - kernel) // stride + 1) // pool
    return side


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_any_frame_size(name: str, height: int, width: int) -> None:
    torso = torso_of(name, (4, height, width))
    channels = 32 if name == "impala" else LAYERS[name][0][-1][0]
    assert torso.map_shape == (channels, side_after(name, height), side_after(name, width))
    assert torso.features == channels * torso.map_shape[1] * torso.map_shape[2]
    assert torso(torch.rand(2, 4, height, width)).shape == (2, torso.features)


def test_published_sizes() -> None:
    # Mnih et al. 2013: 32 maps of 9 x 9; Mnih et al. 2015: 64 maps of 7 x 7; Espeholt et al. 2018: 32 maps of 11 x 11
    assert torso_of("dqn_2013", (4, 84, 84)).features == 32 * 9 * 9 == 2592
    assert torso_of("dqn_2015", (4, 84, 84)).features == 64 * 7 * 7 == 3136
    assert torso_of("impala", (4, 84, 84)).features == 32 * 11 * 11 == 3872
    assert torso_of("small", (4, 42, 42)).features == 32 * 4 * 4 == 512
    # 84 - 4 = 80, 40, 40 - 4 = 36, 18
    assert torso_of("lenet", (4, 84, 84)).features == 32 * 18 * 18


def test_names_and_shapes_of_saved_parameters() -> None:
    shapes = {k: tuple(v.shape) for k, v in torso_of("dqn_2015", (4, 84, 84)).state_dict().items()}
    assert shapes == {
        "layers.0.weight": (32, 4, 8, 8),
        "layers.0.bias": (32,),
        "layers.2.weight": (64, 32, 4, 4),
        "layers.2.bias": (64,),
        "layers.4.weight": (64, 64, 3, 3),
        "layers.4.bias": (64,),
    }
    small = torso_of("small", (4, 10, 10))  # padding comes first
    assert [k for k in small.state_dict() if k.endswith("weight")] == [f"layers.{i}.weight" for i in (1, 3, 5)]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_without_options_there_are_no_extra_modules(name: str) -> None:
    kinds = {type(m).__name__ for m in torso_of(name, (4, 84, 84)).modules()}
    extra = {"impala": {"MaxPool2d", "Residual"}, "lenet": {"MaxPool2d"}}.get(name, set())
    assert kinds == {"Convolutions", "Sequential", "Conv2d", "ReLU", "Flatten"} | extra


def test_padding_is_even_and_only_where_needed() -> None:
    # 5 to 36 wide, 10 to 36 high
    for shape, pad in [((1, 36, 84), (0, 0, 0, 0)), ((1, 10, 5), (15, 16, 13, 13))]:
        torso = torso_of("dqn_2015", shape)
        assert isinstance(torso, Convolutions)
        assert torso.pad == pad


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_every_pixel_of_a_small_frame_matters(name: str) -> None:
    torso = torso_of(name, (1, 10, 5))
    frame = torch.rand(1, 1, 10, 5)
    features = torso(frame)
    for y in range(10):
        for x in range(5):
            other = frame.clone()
            other[0, 0, y, x] += 100
            assert not torch.equal(torso(other), features)


def naive_impala(weights: list[Tensor], x: Tensor) -> Tensor:
    """Espeholt et al. 2018, figure 3, right, read from the top down."""
    parameters = iter(weights)

    def conv(x: Tensor) -> Tensor:
        return F.conv2d(x, next(parameters), next(parameters), padding=1)

    for _ in range(3):
        x = F.max_pool2d(conv(x), 3, 2, 1)
        for _ in range(2):
            x = x + conv(F.relu(conv(F.relu(x))))
    assert next(parameters, None) is None
    return F.relu(x).flatten(1)


def test_impala_is_the_published_network() -> None:
    torso = torso_of("impala", (4, 20, 15))
    weights = list(torso.parameters())
    # weights and biases: of the stages' first convolutions, then of the four in two residual blocks
    first = (4 * 16 + 16 * 32 + 32 * 32) * 9 + 16 + 32 + 32
    residual = 4 * (16 * 16 + 32 * 32 + 32 * 32) * 9 + 4 * (16 + 32 + 32)
    assert sum(w.numel() for w in weights) == first + residual
    x = torch.rand(3, 4, 20, 15)
    torch.testing.assert_close(torso(x), naive_impala(weights, x))


def test_lenet_by_hand() -> None:
    torso = torso_of("lenet", (4, 20, 23))
    w0, b0, w1, b1 = torso.parameters()
    x = torch.rand(3, 4, 20, 23)
    maps = F.max_pool2d(F.relu(F.conv2d(x, w0, b0)), 2)
    maps = F.max_pool2d(F.relu(F.conv2d(maps, w1, b1)), 2)
    torch.testing.assert_close(torso(x), maps.flatten(1))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_width_multiplies_channels(name: str) -> None:
    one, three = (
        [m.out_channels for m in torso_of(name, (2, 20, 20), width=w).modules() if isinstance(m, nn.Conv2d)]
        for w in (1, 3)
    )
    assert three == [3 * c for c in one]
    assert torso_of(name, (2, 20, 20), width=3)(torch.rand(1, 2, 20, 20)).shape[1] % 3 == 0


def test_pooling_takes_the_largest_of_each_part() -> None:
    plain, pooled = torso_of("impala", (4, 84, 84)), torso_of("impala", (4, 84, 84), pool=6)
    assert pooled.map_shape == (32, 6, 6) and pooled.features == 32 * 6 * 6
    x = torch.rand(2, 4, 84, 84)
    maps = plain(x).unflatten(1, plain.map_shape)
    given = pooled(x).unflatten(1, pooled.map_shape)
    for i in range(6):
        for j in range(6):
            # part i of 6 of 11 pixels: from floor(11 i / 6) up to ceil(11 (i + 1) / 6)
            part = maps[:, :, 11 * i // 6 : -(-11 * (i + 1) // 6), 11 * j // 6 : -(-11 * (j + 1) // 6)]
            assert torch.equal(given[:, :, i, j], part.amax((2, 3)))


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_pooling_maps_of_any_size(name: str) -> None:
    torso = torso_of(name, (4, 10, 5), pool=3)
    assert torso.map_shape[1:] == (3, 3)
    assert torso(torch.rand(2, 4, 10, 5)).shape == (2, torso.features)


def kinds_of(torso: Torso, normalize: str) -> list[type]:
    """Convolutions and normalizations, in order."""
    kind = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm}[normalize]
    return [type(m) for m in torso.modules() if isinstance(m, (nn.Conv2d, kind))]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@pytest.mark.parametrize(("normalize", "kind"), [("batch", nn.BatchNorm2d), ("layer", nn.GroupNorm)])
def test_a_normalization_follows_every_convolution(name: str, normalize: str, kind: type) -> None:
    kinds = kinds_of(torso_of(name, (4, 84, 84), normalize=normalize), normalize)
    count = 15 if name == "impala" else len(LAYERS[name][0])
    assert kinds == [nn.Conv2d, kind] * count


def test_batch_normalization_leaves_no_scale() -> None:
    torso = torso_of("dqn_2013", (1, 84, 84), normalize="batch")
    x = torch.rand(8, 1, 84, 84)
    # the scale that is left comes from the constant beside the variance
    torch.testing.assert_close(torso(x * 50 + 3), torso(x * 20), atol=2e-2, rtol=0)
    norm = torso.layers[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 2, "making a torso must not count as a batch"


def test_layer_normalization_is_of_each_image() -> None:
    torso = torso_of("impala", (4, 21, 21), normalize="layer")
    x = torch.rand(3, 4, 21, 21)
    torch.testing.assert_close(torso(x)[:1], torso(x[:1]))
    conv, norm = torso.layers[0], torso.layers[1]
    maps = conv(x)
    mean, var = maps.mean((1, 2, 3), keepdim=True), maps.var((1, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(norm(maps), (maps - mean) / (var + 1e-5).sqrt(), atol=1e-5, rtol=1e-5)


def test_spectral_normalization_is_of_residual_blocks_or_of_all() -> None:
    torso = torso_of("impala", (4, 84, 84), normalize="spectral")
    spectral = {k for k, m in torso.named_modules() if isinstance(m, SpectralConv2d)}
    convolutions = {k for k, m in torso.named_modules() if isinstance(m, nn.Conv2d)}
    assert spectral == {k for k in convolutions if ".block." in k} and len(spectral) == 12
    for name in LAYERS:
        torso = torso_of(name, (4, 84, 84), normalize="spectral")
        assert all(isinstance(m, SpectralConv2d) for m in torso.modules() if isinstance(m, nn.Conv2d))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 4), st.floats(0.01, 100), st.integers(0, 2**31))
def test_spectral_normalization_divides_by_the_largest_singular_value(
    inputs: int, outputs: int, kernel: int, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = SpectralConv2d(inputs, outputs, kernel)
    with torch.no_grad():
        layer.weight.mul_(scale)
        for _ in range(150):
            sigma = layer.sigma()
    exact = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
    torch.testing.assert_close(sigma.detach(), exact, rtol=1e-2, atol=0)
    x = torch.rand(2, inputs, 5, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight / sigma, layer.bias), rtol=1e-3, atol=1e-4)


def test_spectral_normalization_equals_pytorchs() -> None:
    torch.manual_seed(0)
    ours = SpectralConv2d(3, 8, 3)
    theirs = nn.Conv2d(3, 8, 3)
    theirs.load_state_dict({"weight": ours.weight, "bias": ours.bias})
    nn.utils.parametrizations.spectral_norm(theirs)
    x = torch.rand(2, 3, 9, 9)
    for _ in range(200):
        a, b = ours(x), theirs(x)
    torch.testing.assert_close(a, b)
    a.square().sum().backward()
    b.square().sum().backward()
    original = theirs.parametrizations.weight.original
    torch.testing.assert_close(ours.weight.grad, original.grad, rtol=1e-3, atol=1e-4)


def test_power_iteration_moves_in_training_only() -> None:
    layer = SpectralConv2d(3, 8, 3)
    x, before = torch.rand(1, 3, 9, 9), layer.u.clone()
    layer.eval()
    first = layer(x)
    assert torch.equal(layer.u, before) and torch.equal(layer(x), first)
    layer.train()
    layer(x)
    assert not torch.equal(layer.u, before)


@pytest.mark.parametrize("training", [True, False])
def test_weights_of_zero_stay_zero_and_can_leave_it(training: bool) -> None:
    layer = SpectralConv2d(3, 8, 3).train(training)
    start = layer.weight.detach().clone()
    x = torch.rand(1, 3, 9, 9)
    nn.init.zeros_(layer.weight)
    assert torch.equal(layer(x), layer.bias.view(1, 8, 1, 1).expand(1, 8, 7, 7))
    with torch.no_grad():
        layer.weight.copy_(start)
        assert float(layer.sigma()) > 0.1


@pytest.mark.parametrize("normalize", NORMALISATIONS)
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_options_together_in_bf16_with_gradients(name: str, normalize: str) -> None:
    torso = torso_of(name, (2, 30, 23), normalize=normalize, pool=2, width=2)
    x = torch.rand(4, 2, 30, 23)
    exact = copy.deepcopy(torso)(x)
    with torch.autocast("cpu", torch.bfloat16):
        features = torso(x)
    # eight bits of mantissa, in up to 15 layers
    torch.testing.assert_close(features.float(), exact, rtol=0, atol=0.05 * float(exact.detach().max()))
    features.float().square().sum().backward()
    grads = [p.grad for p in torso.parameters()]
    assert all(g is not None and torch.isfinite(g).all() and g.dtype == torch.float32 for g in grads)
    assert all(g is not None and g.any() for g in grads)


@pytest.mark.parametrize(("name", "normalize"), [("dqn_2013", "batch"), ("lenet", "layer"), ("small", "spectral")])
def test_compiled_in_bf16(name: str, normalize: str) -> None:
    """The backend traces forward and backward as the real one does, without waiting for a C++ compiler."""
    eager, compiled = (torso_of(name, (2, 20, 20), normalize=normalize, pool=2) for _ in range(2))
    run = torch.compile(compiled, dynamic=False, backend="aot_eager", fullgraph=True)
    x = torch.rand(4, 2, 20, 20)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16):
            a, b = eager(x), run(x)
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05)
        a.float().sum().backward()
        b.float().sum().backward()
    theirs = compiled.state_dict()
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(theirs[name], value, rtol=0.05, atol=0.05)
    for p, q in zip(eager.parameters(), compiled.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None
        assert float((p.grad - q.grad).norm()) < 0.1 * float(p.grad.norm()) + 1e-2


@pytest.mark.parametrize("name", ["mlp", "tabular"])
def test_vectors_stay_as_they_are(name: str) -> None:
    torso = torso_of(name, (3,))
    assert torso.features == 3
    assert torch.equal(torso(torch.tensor([[1.0, -2.0, 3.0]])), torch.tensor([[1.0, -2.0, 3.0]]))
    assert torso_of(name, (4, 7, 5)).features == 4 * 7 * 5
    assert torso_of(name, (4, 7, 5))(torch.rand(2, 4, 7, 5)).shape == (2, 140)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_vectors_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs images"):
        torso_of(name, (4,))


@pytest.mark.parametrize(("planes", "outputs", "kernel", "stride"), [(4, 32, 8, 4), (3, 5, 4, 2), (2, 7, 6, 3)])
@pytest.mark.parametrize("shape", [(84, 84), (42, 37), (9, 11)])
def test_a_folded_convolution_is_the_same(
    planes: int, outputs: int, kernel: int, stride: int, shape: tuple[int, int]
) -> None:
    layer = nn.Conv2d(planes, outputs, kernel, stride)
    images = torch.randn(3, planes, *shape)
    assert folds(layer)
    torch.testing.assert_close(convolve_folded(layer, images), layer(images), rtol=1e-4, atol=1e-5)


def test_what_a_folded_convolution_cannot_stand_for() -> None:
    others = [nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 5, 2), nn.Conv2d(4, 8, 8, 4, padding=1), nn.Linear(4, 8)]
    assert not any(folds(layer) for layer in others)
