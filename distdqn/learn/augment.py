"""Augmented views of a minibatch's images."""

import torch
from torch import Tensor

from distdqn.algo.augment import random_intensity, random_shift
from distdqn.config import AugmentConfig


def views(config: AugmentConfig, images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` differently augmented copies of uint8 `[B, S, H, W]`, one after the other: `[count * B, S, H, W]`
    (Yarats et al. 2021, section 3.1)."""
    images = images.repeat(count, 1, 1, 1)
    if config.kind in ("shift", "both"):
        images = random_shift(images, config.pixels, generator)
    if config.kind in ("intensity", "both"):
        images = random_intensity(images, config.intensity, generator)
    return images
