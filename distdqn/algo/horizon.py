"""How far an agent looks ahead, moved over the updates since its last reset (Schwarzer et al. 2023, BBF)."""


def annealed_exponentially(step: int, first: float, final: float, over: int) -> float:
    """first^(1 - x) final^x with x = step / over, held within [0, 1]: every step multiplies by the same factor.
    `first` and `final` are at least 0."""
    share = min(max(step, 0) / over, 1.0)
    return first ** (1 - share) * final**share


def anneal_discount(step: int, first: float, final: float, over: int) -> float:
    """A discount of which 1 - gamma moves exponentially, so that the horizon 1 / (1 - gamma) does."""
    return 1 - annealed_exponentially(step, 1 - first, 1 - final, over)


def anneal_horizon(step: int, first: int, final: int, over: int) -> int:
    """n of an n-step return, moved exponentially and rounded."""
    return round(annealed_exponentially(step, first, final, over))
