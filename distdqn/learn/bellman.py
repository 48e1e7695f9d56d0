"""Targets and losses of one agent: its bootstrap, and the equations of its head."""

from torch import Tensor

from distdqn.algo import bootstrap
from distdqn.config import AgentConfig, BootstrapConfig
from distdqn.config.section import build
from distdqn.nets.heads import Head, Values


class Bootstrap:
    """Which value the target takes from the bootstrap observation: a policy over the next action, a bonus for taking
    it, and what it adds to the reward. One of one's own overrides what differs from `Max`.

    Attributes:
        needs_selector: it looks at the online network's values of the bootstrap observation.
        needs_previous: it looks at the target network's values of the observation that was acted on.
    """

    needs_selector = False
    needs_previous = False

    def __init__(self, config: BootstrapConfig) -> None:
        self.config = config

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Probabilities float32 `[P, A]` of the next action, and its bonus `[P, A]` or None.

        Args:
            q: float32 `[P, A]`, the target network's values, in units of return. selector: the online network's, where
                `needs_selector`.
        """
        raise NotImplementedError

    def reward(self, q_tm1: Tensor, action: Tensor) -> Tensor:
        """What is added to the reward, float32 `[P]`, where `needs_previous`.

        Args:
            q_tm1: float32 `[P, A]`, the target network's values before the action. action: int64 `[P]`.
        """
        raise NotImplementedError


class Max(Bootstrap):
    """The largest value (Mnih et al. 2015, algorithm 1)."""

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return bootstrap.greedy_policy(q), None


class Double(Bootstrap):
    """The value of the action that the online network would take (van Hasselt et al. 2016, equation 4)."""

    needs_selector = True

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return bootstrap.greedy_policy(q if selector is None else selector), None


class Soft(Bootstrap):
    """The mean value under softmax(q / temperature)."""

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return bootstrap.softmax_policy(q, self.config.temperature)[0], None


class Munchausen(Bootstrap):
    """The soft value with an entropy bonus, and the scaled log-policy in the reward (Vieillard et al. 2020)."""

    needs_previous = True

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        policy, log_policy = bootstrap.softmax_policy(q, self.config.temperature)
        return policy, bootstrap.entropy_bonus(log_policy, self.config.temperature)

    def reward(self, q_tm1: Tensor, action: Tensor) -> Tensor:
        c = self.config
        return bootstrap.munchausen_reward(q_tm1, action, c.temperature, c.alpha, c.clip)


BOOTSTRAPS = {"max": Max, "double": Double, "soft": Soft, "munchausen": Munchausen}


class Bellman:
    """The equations that `config` names, for P positions at once."""

    def __init__(self, config: AgentConfig, head: Head) -> None:
        self.head, self.huber = head, config.loss == "huber"
        self.bootstrap: Bootstrap = build(config.bootstrap, BOOTSTRAPS)

    def reward(self, reward: Tensor, q_tm1: Tensor | None, action: Tensor) -> Tensor:
        """`reward` `[P]` plus the bootstrap's; `q_tm1` `[P, A]`: the target network's before the action, or None."""
        return reward if q_tm1 is None else reward + self.bootstrap.reward(self.head.unscaled(q_tm1), action)

    def target(self, reward: Tensor, discount: Tensor, values_t: Values, selector: Tensor | None) -> Tensor:
        """As `Head.target`, `[P]` or `[P, Z]`, by the bootstrap's policy; `selector` `[P, A]`: the online network's
        values of the bootstrap observation, where the bootstrap needs them."""
        policy, bonus = self.bootstrap.policy(self.head.unscaled(values_t.q), selector)
        return self.head.target(values_t, policy, bonus, reward, discount)

    def loss(self, values: Values, action: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the priority of each position, `[P]` both; no gradient flows into `target`."""
        return self.head.loss(values, action, target, self.huber)
