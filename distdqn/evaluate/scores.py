"""What returns are worth beside a random player and a human."""

import csv
from functools import cache
from importlib.resources import files

import numpy as np


@cache
def random_and_human() -> dict[str, tuple[float, float]]:
    """Random and human scores of the 57 Atari games by ROM id, no-op starts, at most 108,000 frames
    (the table published with DQN Zoo)."""
    text = (files("distdqn.evaluate") / "atari57_random_human.csv").read_text()
    return {r["game"]: (float(r["random"]), float(r["human"])) for r in csv.DictReader(text.splitlines())}


def human_normalised(game: str, score: float) -> float | None:
    """(score - random) / (human - random), or None for a game without published scores."""
    if game not in random_and_human():
        return None
    random, human = random_and_human()[game]
    return (score - random) / (human - random)


def interquartile_mean(scores: np.ndarray) -> float:
    """Mean of the middle half of the scores (Agarwal et al. 2021); the quarter cut from each end is rounded down."""
    ordered = np.sort(np.asarray(scores, float).ravel())
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(
    scores: np.ndarray, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the interquartile mean (Agarwal et al. 2021)."""
    scores = np.asarray(scores, float).ravel()
    picks = np.random.default_rng(seed).integers(0, len(scores), (draws, len(scores)))
    means = [interquartile_mean(scores[p]) for p in picks]
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
