"""What keeps weights small or fresh: penalties, and resets (D'Oro et al. 2023; Schwarzer et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that penalties and decay act on: weights of linear, convolutional and recurrent layers, not
    biases and not those of normalization, which have one dimension."""
    return [p for p in module.parameters() if p.requires_grad and p.dim() > 1]


def penalty(weights: Iterable[nn.Parameter], l1: float, l2: float) -> Tensor:
    """l1 sum |w| + l2 sum w^2, a scalar."""
    terms = [l1 * w.abs().sum() + l2 * w.square().sum() for w in weights]
    return torch.stack(terms).sum()


@torch.no_grad()
def shrink_and_perturb(network: nn.Module, fresh: nn.Module, keep: float) -> None:
    """Moves the torso towards newly initialized weights, keep theta + (1 - keep) phi, and starts everything behind
    it anew (Schwarzer et al. 2023, section 3; Ash and Adams 2020).

    Args:
        network: has a `torso`. fresh: the same network, newly initialized.
    """
    new = fresh.state_dict()
    for name, value in network.state_dict().items():
        if name == "mean_frame":
            continue
        if name.startswith("torso.") and value.is_floating_point():
            value.lerp_(new[name], 1 - keep)
        else:
            value.copy_(new[name])
