"""Priorities and importance weights (Schaul et al. 2016)."""

import torch
from torch import Tensor


def normalize_importance(importance: Tensor) -> Tensor:
    """w_i / max_j w_j over the whole minibatch, so that updates are only scaled down (section 3.4). float32 `[B]`."""
    return importance / importance.max()


def beta_at(progress: float, beta: float, beta_final: float) -> float:
    """beta on a straight line from its first value to its last; `progress` of the budget in [0, 1]."""
    return beta + (beta_final - beta) * min(max(progress, 0.0), 1.0)


def sequence_priority(td_abs: Tensor, mask: Tensor, eta: float) -> Tensor:
    """eta max_i |delta_i| + (1 - eta) mean_i |delta_i| over a sequence (Kapturowski et al. 2019, section 2.3). Gives
    float32 `[...]`, 0 where none counts.

    Args:
        td_abs: float32 `[..., U]`, absolute TD errors.
        mask: bool `[..., U]`, which of them count.
    """
    counted = torch.where(mask, td_abs, 0.0)
    mean = counted.sum(-1) / mask.sum(-1).clamp(min=1)
    return eta * counted.amax(-1) + (1 - eta) * mean
