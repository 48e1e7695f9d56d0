"""The intrinsic reward of Never Give Up (Badia et al. 2020, section 2 and algorithm 1), in NumPy for the actors."""

import numpy as np

CLUSTER_DISTANCE = 0.008
"""xi: neighbours this near, in units of the mean distance, count as the same state."""
KERNEL_EPSILON = 1e-3
PSEUDO_COUNT = 1e-3
"""c."""
MAX_SIMILARITY = 8.0
"""s_max: a state more familiar than this earns nothing."""
TINY = 1e-8


def nearest(embedding: np.ndarray, memory: np.ndarray, neighbours: int) -> np.ndarray:
    """Squared Euclidean distances d^2(f(x), f_i) to the k nearest neighbours, in no order. Gives float32 `[k]`;
    infinity in place of neighbours that a memory of fewer than k does not have.

    Args:
        embedding: f(x) float32 `[E]`.
        memory: what the episode has shown so far, float32 `[M, E]`.
        neighbours: k.
    """
    difference = memory - embedding
    distance = np.einsum("me,me->m", difference, difference)
    missing = neighbours - len(memory)
    if missing >= 0:
        return np.append(distance, np.full(missing, np.inf, distance.dtype))
    return np.partition(distance, neighbours - 1)[:neighbours]


def similarity(distance: np.ndarray, mean: float) -> np.ndarray:
    """s = sqrt(sum_i K_i) + c with K_i = eps / (max(d_i^2 / d_m^2 - xi, 0) + eps) (algorithm 1).

    A missing neighbour counts as one at the mean distance. Left out, it would make the first states of each episode a
    prize of up to 1/c = 1000 for nothing. Gives float32 `[...]`.

    Args:
        distance: d^2 float32 `[..., k]`, infinity where missing.
        mean: d_m^2, the running mean of such distances.
    """
    normalized = np.where(np.isinf(distance), np.float32(1), distance / max(mean, TINY))
    clustered = np.maximum(normalized - np.float32(CLUSTER_DISTANCE), 0)
    kernel = KERNEL_EPSILON / (clustered + KERNEL_EPSILON)
    return np.sqrt(kernel.sum(-1)) + PSEUDO_COUNT


def episodic_bonus(similarity: np.ndarray) -> np.ndarray:
    """r_episodic = 1 / s, or 0 where s > s_max (algorithm 1). Same shape."""
    return np.where(similarity > MAX_SIMILARITY, 0, 1 / similarity)


def modulator(error: np.ndarray, mean: float, std: float, limit: float) -> np.ndarray:
    """min(max(alpha, 1), L) with alpha = 1 + (err - mean) / std (equation 1 and section 2, life-long novelty). Gives
    float32 `[N]`, the factor of the episodic bonus.

    Args:
        error: of random network distillation (Burda et al. 2019), float32 `[N]`.
        mean: running mean of such errors.
        std: their running standard deviation.
        limit: L.
    """
    alpha = 1 + (error - mean) / max(std, TINY)
    return np.clip(alpha, 1, limit)
