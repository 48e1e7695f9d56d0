"""Who explores how much."""

from __future__ import annotations

import numpy as np


def ladder(count: int, epsilon: float = 0.4, alpha: float = 7.0) -> np.ndarray:
    """epsilon_i = epsilon^(1 + alpha i / (N - 1)) for i in [0, N) (Horgan et al. 2018, section 4.1).
    float64 `[N]`; a single slot gets epsilon itself."""
    if count == 1:
        return np.array([epsilon])
    return np.asarray(epsilon ** (1 + alpha * np.arange(count) / (count - 1)))


def annealed(steps: int, first: float, final: float, over: int) -> float:
    """epsilon on a straight line from `first` to `final` over `over` agent steps (Mnih et al. 2015)."""
    return first + (final - first) * min(max(steps, 0) / over, 1.0)


def epsilon_greedy(q: np.ndarray, epsilon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Greedy actions `[N]` int64 of `q` `[N, A]`, each replaced by a uniform one with probability
    `epsilon` `[N]`."""
    count, actions = q.shape
    explore = rng.random(count) < epsilon
    return np.where(explore, rng.integers(0, actions, count), q.argmax(1)).astype(np.int64)
