"""Priorities and importance weights (Schaul et al. 2016)."""

from __future__ import annotations

from torch import Tensor


def normalise_importance(importance: Tensor) -> Tensor:
    """w_i / max_j w_j over the whole minibatch, so that updates are only ever scaled down (section 3.4).
    float32 `[B]`."""
    return importance / importance.max()


def beta_at(progress: float, beta: float, beta_final: float) -> float:
    """beta on a straight line from its first value to its last; `progress` of the budget in [0, 1]."""
    return beta + (beta_final - beta) * min(max(progress, 0.0), 1.0)
