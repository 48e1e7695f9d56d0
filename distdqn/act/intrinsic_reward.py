"""An actor's intrinsic reward: what it has seen in this episode, and how new that is."""

import numpy as np
import torch
from torch import Tensor

from distdqn.algo import novelty
from distdqn.config import BonusConfig
from distdqn.nets.novelty_network import PREFIX, NoveltyNetwork
from distdqn.types import EnvSpec

HORIZON = 100_000
"""Values after which running means forget: embedding and predictor move on as they learn."""


class RunningMoments:
    """Mean and standard deviation of a stream: of all values up to `horizon`, then with older ones fading."""

    def __init__(self, horizon: int = HORIZON) -> None:
        self.horizon, self.count = horizon, 0
        self.mean = self.variance = 0.0

    @property
    def std(self) -> float:
        """Standard deviation."""
        return float(np.sqrt(self.variance))

    def add(self, values: np.ndarray) -> None:
        """Takes in `values` `[n]`, n from 0 to the horizon (Chan et al. 1979)."""
        if len(values) == 0:
            return
        values = values.astype(np.float64)
        self.count = min(self.count + len(values), self.horizon)
        share = len(values) / self.count
        shift = float(values.mean()) - self.mean
        self.mean += share * shift
        self.variance += share * (float(values.var()) - self.variance + (1 - share) * shift**2)


class EpisodicMemory:
    """The latest `capacity` embeddings of one slot's episode, in no order. It takes room as episodes need it."""

    def __init__(self, capacity: int, embedding: int) -> None:
        self.capacity = capacity
        self.room = np.empty((min(capacity, 64), embedding), np.float32)
        self.written = 0

    @property
    def held(self) -> np.ndarray:
        """A view of the embeddings, float32 `[M, E]`."""
        return self.room[: self.written]

    def add(self, embedding: np.ndarray) -> None:
        """Writes `embedding` float32 `[E]`, over the oldest one where the memory is full."""
        place = self.written % self.capacity
        if place == len(self.room):
            more = min(len(self.room), self.capacity - len(self.room))
            self.room = np.concatenate([self.room, np.empty((more, self.room.shape[1]), np.float32)])
        self.room[place] = embedding
        self.written += 1

    def clear(self) -> None:
        """Empties it; an episode begins."""
        self.written = 0


class IntrinsicReward:
    """The intrinsic reward of an actor's N slots, with a copy of the learner's networks, on the CPU. `bonus` is to be
    asked once for each observation, in order."""

    def __init__(self, config: BonusConfig, spec: EnvSpec, slots: int, seed: int) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = NoveltyNetwork(config, spec).eval()
        self.memories = [EpisodicMemory(config.memory, config.embedding) for _ in range(slots)]
        self.distance = RunningMoments()
        """Of the squared distances to the nearest neighbours; its mean is d_m^2."""
        self.error = RunningMoments()
        """Of the distillation error."""

    def load(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over the learner's networks, the `novelty/...` of `arrays`. Embeddings in memory stay as they were."""
        self.network.load_arrays({n.removeprefix(PREFIX): a for n, a in arrays.items() if n.startswith(PREFIX)})

    @torch.inference_mode()
    def bonus(self, observation: Tensor, start: np.ndarray) -> np.ndarray:
        """r_episodic min(max(alpha, 1), L) (Badia et al. 2020, equation 1), float32 `[N]`, unweighted.

        Args:
            observation: what the environment has just given, `[N, S * C, H, W]` uint8 or bool, or `[N, D]` float32.
            start: bool `[N]`, an episode begins with this observation: its slot's memory is emptied before.
        """
        bonus = self._episodic(self.network.embed(observation).numpy(), start)
        if self.config.lifelong_max > 1:
            error = self.network.distillation_error(observation).numpy()
            self.error.add(error)
            bonus = bonus * novelty.modulator(error, self.error.mean, self.error.std, self.config.lifelong_max)
        return bonus.astype(np.float32)

    def _episodic(self, embedding: np.ndarray, start: np.ndarray) -> np.ndarray:
        distance = np.empty((len(embedding), self.config.neighbours), np.float32)
        for slot, memory in enumerate(self.memories):
            if start[slot]:
                memory.clear()
            distance[slot] = novelty.nearest(embedding[slot], memory.held, self.config.neighbours)
            memory.add(embedding[slot])
        self.distance.add(distance[np.isfinite(distance)])
        return novelty.episodic_bonus(novelty.similarity(distance, self.distance.mean))
