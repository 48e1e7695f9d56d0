"""From observations to features."""

from collections.abc import Sequence
from typing import NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdqn.config import TorsoConfig
from distdqn.config.network import CONVOLUTIONAL
from distdqn.config.section import build


class Layer(NamedTuple):
    """An unpadded convolution, ReLU, and max pooling over squares of side `pool` (1: none)."""

    channels: int
    kernel: int
    stride: int = 1
    pool: int = 1


PLAIN: dict[str, tuple[Layer, ...]] = {
    # Mnih et al. 2015, methods
    "dqn_2015": (Layer(32, 8, 4), Layer(64, 4, 2), Layer(64, 3, 1)),
    # Mnih et al. 2013, section 4.1
    "dqn_2013": (Layer(16, 8, 4), Layer(32, 4, 2)),
    # For frames of about 42 x 42: the first layer sees as much of the screen as that of the published networks sees
    # of 84 x 84, and a third layer keeps the fully connected ones small.
    "small": (Layer(16, 4, 2), Layer(32, 4, 2), Layer(32, 3, 2)),
    # After LeCun et al. 1998, section II.B, with max pooling and ReLU
    "lenet": (Layer(16, 5, pool=2), Layer(32, 5, pool=2)),
}
"""Torsos that are one layer after the other."""
IMPALA = (16, 32, 32)
"""Channels of the three stages of Espeholt et al. 2018, figure 3, right."""


class Torso(nn.Module):
    """Maps float32 `[B, P, H, W]`, P = S * C planes, or `[B, D]` to `[B, features]`."""

    features: int
    map_shape: tuple[int, int, int]
    """Channels, height and width of the last maps, which the features are row by row. Convolutional torsos only."""


class Flat(Torso):
    """The observation as one vector, for a multilayer perceptron or a table: `[B, ...]` to `[B, features]`."""

    def __init__(self, config: TorsoConfig, shape: Sequence[int]) -> None:
        super().__init__()
        self.features = int(torch.Size(shape).numel())

    def forward(self, observation: Tensor) -> Tensor:
        return observation.flatten(1)


class Convolutions(Torso):
    """The modules of `body`, flattened: `[B, P, H, W]` float32 to `[B, features]`.

    Args:
        shape: P, H, W.
        least: side of the smallest image that the body takes. Smaller frames are padded with zeros, evenly on both
            sides, so that every frame size works.
        pool: side that the last maps are max-pooled to, whatever it was; None leaves them.
    """

    def __init__(self, shape: Sequence[int], body: Sequence[nn.Module], least: int, pool: int | None) -> None:
        super().__init__()
        _, height, width = shape
        pad_h, pad_w = max(0, least - height), max(0, least - width)
        self.pad = (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2)
        padding = [nn.ZeroPad2d(self.pad)] if any(self.pad) else []
        pooling = [nn.AdaptiveMaxPool2d(pool)] if pool is not None else []
        self.layers = nn.Sequential(*padding, *body, *pooling, nn.Flatten())
        self.eval()  # the zeros must not enter any running statistics
        with torch.no_grad():
            channels, height, width = self.layers[:-1](torch.zeros(1, *shape)).shape[1:]
        self.train()
        self.map_shape = channels, height, width
        self.features = channels * height * width

    def forward(self, observation: Tensor) -> Tensor:
        first, *rest = self.layers
        if not (observation.is_cuda and torch.is_autocast_enabled("cuda") and folds(first)):
            return self.layers(observation)
        maps = convolve_folded(first, observation)
        for layer in rest:
            maps = layer(maps)
        return maps


def folds(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether `convolve_folded` can stand for `layer`."""
    if type(layer) is not nn.Conv2d or layer.padding != (0, 0):
        return False
    (side, other), (stride, _) = layer.kernel_size, layer.stride
    return side == other and stride > 1 and side % stride == 0


def convolve_folded(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """What `layer` makes of `images` `[B, P, H, W]`, by the convolution of stride 1 over squares of stride x stride
    pixels, each a pixel with P * stride^2 planes. In bfloat16 a GPU multiplies matrices of eight planes or more; to the
    four of a stack it would add zeros."""
    outputs, planes, side, _ = layer.weight.shape
    stride = layer.stride[0]
    count = side // stride
    height, width = ((x - side) // stride * stride + side for x in images.shape[2:])  # what the layer looks at
    folded = F.pixel_unshuffle(images[:, :, :height, :width], stride).contiguous(memory_format=torch.channels_last)
    weight = layer.weight.view(outputs, planes, count, stride, count, stride).permute(0, 1, 3, 5, 2, 4)
    return F.conv2d(folded, weight.reshape(outputs, planes * stride * stride, count, count), layer.bias)


class SpectralConv2d(nn.Conv2d):
    """A convolution with W / sigma(W), sigma the largest singular value of W as a matrix `[out, in * kernel^2]`
    (Miyato et al. 2018, equation 8 and algorithm 1).

    Each pass takes one step of the power method from `u`; training keeps where it arrives. Unlike PyTorch's own
    parametrisation, `weight` stays an ordinary parameter that initializers may set at any time, a `u` that does not
    fit the weights yet can not blow them up, and weights of zero give zeros.
    """

    u: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding)
        self.register_buffer("u", F.normalize(torch.randn(outputs), dim=0))

    def forward(self, maps: Tensor) -> Tensor:
        return F.conv2d(maps, self.weight / self.sigma(), self.bias, self.stride, self.padding)

    def sigma(self) -> Tensor:
        """u^T W v, a scalar; u and v count as constants in its gradient."""
        with torch.autocast(self.weight.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            with torch.no_grad():
                v = F.normalize(matrix.T @ self.u, dim=0)
                u = F.normalize(matrix @ v, dim=0)
                if self.training:
                    self.u.copy_(torch.where(u.any(), u, self.u))
            return (u @ (matrix @ v)).clamp_min(1e-12)


def convolution(
    normalize: str, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """A convolution and the normalization after it. `none`; `batch`: Ioffe and Szegedy 2015; `layer`: each image's maps
    together, which is layer normalization (Ba et al. 2016) with one scale and shift for each channel, as GroupNorm with
    one group computes it; `spectral`: of the weights."""
    if normalize == "spectral":
        return [SpectralConv2d(inputs, outputs, kernel, stride, padding)]
    bias = normalize != "batch"  # which would take it away again
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias)]
    if normalize == "batch":
        layers.append(nn.BatchNorm2d(outputs))
    if normalize == "layer":
        layers.append(nn.GroupNorm(1, outputs))
    return layers


class Residual(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))), `[B, C, H, W]` to the same (Espeholt et al. 2018, figure 3). Normalization
    comes after each of the two convolutions, so before the sum."""

    def __init__(self, normalize: str, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            *convolution(normalize, channels, channels, 3, padding=1),
            nn.ReLU(),
            *convolution(normalize, channels, channels, 3, padding=1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.block(maps)


def plain(config: TorsoConfig, shape: Sequence[int]) -> Torso:
    """A `PLAIN` torso for images `[P, H, W]`."""
    body: list[nn.Module] = []
    inputs, layers, least = shape[0], PLAIN[config.kind], 1
    for layer in layers:
        outputs = layer.channels * config.width
        body += [*convolution(config.normalize, inputs, outputs, layer.kernel, layer.stride), nn.ReLU()]
        if layer.pool > 1:
            body.append(nn.MaxPool2d(layer.pool))
        inputs = outputs
    for layer in reversed(layers):  # the side that leaves one pixel after the last layer
        least = (least * layer.pool - 1) * layer.stride + layer.kernel
    return Convolutions(shape, body, least, config.pool)


def impala(config: TorsoConfig, shape: Sequence[int]) -> Torso:
    """The residual network of Espeholt et al. 2018, figure 3, right, up to its last ReLU, for images `[P, H, W]`.
    Spectral normalization is of the residual blocks alone (Clark et al. 2024)."""
    body: list[nn.Module] = []
    inputs = shape[0]
    for channels in IMPALA:
        outputs = channels * config.width
        entry = "none" if config.normalize == "spectral" else config.normalize
        body += [
            *convolution(entry, inputs, outputs, 3, padding=1),
            nn.MaxPool2d(3, stride=2, padding=1),
            Residual(config.normalize, outputs),
            Residual(config.normalize, outputs),
        ]
        inputs = outputs
    return Convolutions(shape, [*body, nn.ReLU()], 1, config.pool)


TORSOS = {"mlp": Flat, "tabular": Flat, "impala": impala, **dict.fromkeys(PLAIN, plain)}


def make_torso(config: TorsoConfig, shape: Sequence[int]) -> Torso:
    """The torso that `config` describes, for observations of `shape` (without the batch dimension). Raises
    `ValueError`: a convolutional torso for vectors."""
    if config.kind in CONVOLUTIONAL and len(shape) != 3:
        raise ValueError(f"torso {config.kind} needs images, the observation has shape {tuple(shape)}: use mlp")
    return build(config, TORSOS, shape)
