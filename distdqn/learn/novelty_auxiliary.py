"""Learning what novelty is measured with: the embedding's inverse dynamics and the random network's predictor."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from distdqn.config import BonusConfig
from distdqn.learn.auxiliary import Auxiliary, observed
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.optimizer import optimizer_state, restore_optimizer
from distdqn.nets.novelty_network import PREFIX, NoveltyNetwork
from distdqn.types import EnvSpec, State

MAX_GRAD_NORM = 40.0


class NoveltyAuxiliary(Auxiliary):
    """Trains a `NoveltyNetwork` with an Adam of its own, apart from the Q-network (Badia et al. 2020, section 2).
    `burn_in`: steps of a window before its first loss position."""

    def __init__(self, config: BonusConfig, spec: EnvSpec, seed: int, burn_in: int = 0) -> None:
        super().__init__()
        self.config, self.at, self.stack = config, burn_in, spec.stack
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = NoveltyNetwork(config, spec)
        trained = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=self.config.learning_rate)

    @property
    def shared(self) -> list[nn.Parameter]:
        return []

    def learn(self, batch: Minibatch) -> dict[str, Tensor]:
        """On the first loss position of each window, which is no dummy and whose next step is of its episode."""
        age = batch.age[:, self.at]
        now, later = (observed(batch, self.at + i, self.stack, age + i) for i in (0, 1))
        return self.update(now, batch.action[:, self.at], later, (age >= 0) & ~batch.last[:, self.at])

    def update(self, observation: Tensor, action: Tensor, next_observation: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """One gradient step on the transitions that `mask` leaves; none where it leaves nothing.

        Args:
            observation: x `[B, S, H, W]` uint8 or `[B, D]` float32.
            action: a int64 `[B]`.
            next_observation: x', what followed on a in the same episode.
            mask: bool `[B]`, false for rows that are no such transition.

        Returns:
            Scalars: `inverse_loss`, the cross-entropy of a given f(x) and f(x'); `inverse_accuracy`, the share
            of actions that were the likeliest; `distillation_error`, the mean of the predictor's (0 where
            `lifelong_max` switches it off). Empty where there was no step.
        """
        observation, action, next_observation = observation[mask], action[mask], next_observation[mask]
        if len(action) == 0:
            return {}
        self.network.measure(next_observation)
        logits = self.network.action_logits(self.network.embed(observation), self.network.embed(next_observation))
        inverse = functional.cross_entropy(logits, action)
        distillation = torch.zeros_like(inverse)
        if self.config.lifelong_max > 1:
            distillation = self.network.distillation_error(next_observation).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (inverse + distillation).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        return {
            "inverse_loss": inverse.detach(),
            "inverse_accuracy": (logits.argmax(-1) == action).float().mean(),
            "distillation_error": distillation.detach(),
        }

    def published(self) -> dict[str, np.ndarray]:
        """The networks, the random one included, for the actors' `IntrinsicReward.load`."""
        return {PREFIX + name: array for name, array in self.network.arrays().items()}

    def state(self) -> State:
        """The networks and the optimizer's moments, as arrays."""
        return {"network": self.network.arrays(), "optimizer": optimizer_state(self.optimizer)}

    def restore(self, state: State) -> None:
        self.network.load_arrays(state["network"])
        restore_optimizer(self.optimizer, state["optimizer"])
