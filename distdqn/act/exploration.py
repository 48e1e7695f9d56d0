"""How acting departs from the greedy action: what actors and evaluators choose their actions with."""

from abc import ABC, abstractmethod

import numpy as np

from distdqn.algo import exploration
from distdqn.config import ExplorationConfig, Import
from distdqn.types import StepField


class Exploration(ABC):
    """Chooses the actions of N slots. One of one's own overrides `actions`, and `epsilons` where it has any.

    Attributes:
        fields: what it wants kept of every step beside the usual, such as a behaviour probability; it arrives in the
            learner's minibatches. `actions` puts the values into `noted`, `[N, ...]` for each.

    Args:
        config: `agent.exploration`.
        places: int64 `[N]`, the slots' places among those of all actors, which they keep when an actor is replaced.
        count: slots of all actors.
        rng: the only source of chance.
    """

    fields: tuple[StepField, ...] = ()

    def __init__(self, config: ExplorationConfig, places: np.ndarray, count: int, rng: np.random.Generator) -> None:
        self.config, self.places, self.count, self.rng = config, places, count, rng
        self.noted: dict[str, np.ndarray] = {}

    @abstractmethod
    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        """Actions int64 `[N]` of `q` `[N, A]` after `env_steps` agent steps of the whole system."""

    def epsilons(self, env_steps: int) -> np.ndarray:
        """epsilon of each slot `[N]`, which is recorded with its games; 0 where none is used."""
        return np.zeros(len(self.places))


class EpsilonGreedy(Exploration):
    """The greedy action, or with probability epsilon a uniform one."""

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        return exploration.epsilon_greedy(q, self.epsilons(env_steps), self.rng)


class Fixed(EpsilonGreedy):
    """One epsilon for ever, for an evaluation's `slots`."""

    def __init__(self, epsilon: float, slots: int, rng: np.random.Generator) -> None:
        super().__init__(ExplorationConfig(), np.arange(slots), slots, rng)
        self.epsilon = np.full(slots, epsilon)

    def epsilons(self, env_steps: int) -> np.ndarray:
        return self.epsilon


class Ladder(EpsilonGreedy):
    """Ape-X's ladder over all slots of all actors (Horgan et al. 2018)."""

    def epsilons(self, env_steps: int) -> np.ndarray:
        return exploration.ladder(self.count, self.config.epsilon, self.config.alpha)[self.places]


class Annealed(EpsilonGreedy):
    """One epsilon for all slots, on a line over agent steps (Mnih et al. 2015)."""

    def epsilons(self, env_steps: int) -> np.ndarray:
        c = self.config
        epsilon = exploration.annealed(env_steps, c.epsilon, c.final_epsilon, c.anneal_steps)
        return np.full(len(self.places), epsilon)


class Boltzmann(Exploration):
    """Drawn from softmax(Q / temperature), the temperature on a line over agent steps."""

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        c = self.config
        temperature = exploration.annealed(env_steps, c.temperature, c.final_temperature, c.anneal_steps)
        return exploration.boltzmann(q, temperature, self.rng)


class Greedy(Exploration):
    """The greedy action, for networks whose noise explores."""

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        return q.argmax(1)


EXPLORATIONS = {"ladder": Ladder, "annealed": Annealed, "boltzmann": Boltzmann, "greedy": Greedy}


def scheme(config: ExplorationConfig) -> type[Exploration]:
    """The class that `config` names."""
    if isinstance(config.kind, Import):
        found: type[Exploration] = config.kind.load(f"{config.key}.kind")
        return found
    return EXPLORATIONS[config.kind]
