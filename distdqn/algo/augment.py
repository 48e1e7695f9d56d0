"""Images changed in ways that leave their values as they are."""

import torch
from torch import Tensor


def random_shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `pixels` in both directions, its border repeated in the gap (Yarats et al. 2021, DrQ:
    pad by replication, then crop at random), all S planes together. Gives the same shape and dtype.

    Args:
        images: `[B, S, H, W]`, uint8 or float.
        generator: on any device.
    """
    count, _, height, width = images.shape
    device = images.device
    shift = torch.randint(-pixels, pixels + 1, (2, count, 1), generator=generator, device=generator.device)
    down, right = shift.to(device)
    # a row or column from beyond the border is the one at the border
    rows = (torch.arange(height, device=device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + right).clamp(0, width - 1)
    moved = images.gather(2, rows[:, None, :, None].expand(images.shape))
    return moved.gather(3, columns[:, None, None, :].expand(images.shape))


def random_intensity(images: Tensor, scale: float, generator: torch.Generator) -> Tensor:
    """Each image multiplied by 1 + scale clip(N(0, 1), -2, 2) (Schwarzer et al. 2021, SPR). uint8 images are multiplied
    in float32, rounded and held in [0, 255]; float images are not held. Arguments and result as in `random_shift`."""
    normal = torch.randn((len(images), 1, 1, 1), generator=generator, device=generator.device)
    factor = (1 + scale * normal.clamp(-2, 2)).to(images.device)
    if images.dtype == torch.uint8:
        return (images * factor).round().clamp(0, 255).to(torch.uint8)
    return images * factor.to(images)
