"""Who explores how much."""

import numpy as np


def ladder(count: int, epsilon: float = 0.4, alpha: float = 7.0) -> np.ndarray:
    """epsilon_i = epsilon^(1 + alpha i / (N - 1)) for i in [0, N) (Horgan et al. 2018, section 4.1).
    float64 `[N]`; a single slot gets epsilon itself."""
    if count == 1:
        return np.array([epsilon])
    return np.asarray(epsilon ** (1 + alpha * np.arange(count) / (count - 1)))


def spread(count: int) -> np.ndarray:
    """The places [0, N) in an order of which every beginning covers them evenly: those of the van der Corput sequence,
    0, 1/2, 1/4, 3/4, 1/8 ... of N. int64 `[N]`."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = [int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits)]
    return np.array([i for i in reversed_bits if i < count], np.int64)


def annealed(steps: int, first: float, final: float, over: int) -> float:
    """epsilon, or a temperature, on a line from `first` to `final` over `over` agent steps (Mnih et al. 2015)."""
    return first + (final - first) * min(max(steps, 0) / over, 1.0)


def epsilon_greedy(q: np.ndarray, epsilon: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Greedy actions `[N]` int64 of `q` `[N, A]`, each replaced by a uniform one with probability `epsilon` `[N]`."""
    count, actions = q.shape
    explore = rng.random(count) < epsilon
    return np.where(explore, rng.integers(0, actions, count), q.argmax(1)).astype(np.int64)


def boltzmann(q: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Actions `[N]` int64 drawn from softmax(q / temperature) of `q` `[N, A]` (Sutton 1990). The largest of q /
    temperature plus Gumbel noise is such a draw, without an exponential that could overflow."""
    return (q.astype(np.float64) / temperature + rng.gumbel(size=q.shape)).argmax(1).astype(np.int64)


def ngu_mixture(count: int, weight: float, discount_max: float, discount_min: float) -> tuple[np.ndarray, np.ndarray]:
    """The weights beta_j of the intrinsic reward and the discounts gamma_j that a family of J policies learns with
    (Badia et al. 2020, appendix A), float64 `[J]` each:

        beta_j = 0 for j = 0, weight for j = J - 1, else weight sigmoid(10 (2 j - (J - 2)) / (J - 2))
        log(1 - gamma_j) on a straight line from discount_max, of the policy that only exploits, to discount_min

    A single policy explores: `([weight], [discount_max])`.
    """
    if count == 1:
        return np.array([weight]), np.array([discount_max])
    j = np.arange(count)
    betas = np.array([0.0, weight])
    if count > 2:
        betas = weight / (1 + np.exp(-10 * (2 * j - (count - 2)) / (count - 2)))
        betas[[0, -1]] = 0, weight
    share = j / (count - 1)
    return betas, 1 - (1 - discount_max) ** (1 - share) * (1 - discount_min) ** share
