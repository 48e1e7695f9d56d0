"""Where windows may start, and the priorities they start with: from the Q-values that acting gave anyway."""

import numpy as np
import torch

from distdqn.act.segmenter import Rollout
from distdqn.algo.exploration import ngu_mixture
from distdqn.algo.priority import sequence_priority
from distdqn.algo.returns import n_step, transform_reward
from distdqn.config import AgentConfig
from distdqn.nets.heads import Head


class InitialPriorities:
    """|n-step TD error| by the acting network's own values, whatever the agent's head and bootstrap are.

    Args:
        rollout_steps: T.
        context: int64 `[N]`, the pair of bonus weight and discount of each slot.
        head: knows the scale of its values.
    """

    def __init__(self, agent: AgentConfig, rollout_steps: int, context: np.ndarray, head: Head) -> None:
        self.agent, self.rollout_steps, self.head = agent, rollout_steps, head
        self.beta, self.discount = np.zeros(len(context)), np.full(len(context), agent.discount)
        bonus = agent.bonus
        if bonus.kind == "ngu":
            pairs = ngu_mixture(bonus.mixtures, bonus.weight, agent.discount, bonus.discount_min)
            self.beta, self.discount = (np.asarray(x)[context] for x in pairs)

    def __call__(self, rollout: Rollout) -> tuple[np.ndarray, np.ndarray]:
        """Which of the first T steps windows may start at, bool `[T, N]`, and their priorities, float32 `[T, N]`. A
        window may start where one of its loss positions is a transition; of sequences only every stride-th."""
        t, sequence = self.rollout_steps, self.agent.sequence
        td = self._errors(rollout)
        # [T, N, U]: the loss positions of each start
        first = slice(sequence.burn_in, sequence.burn_in + t)
        errors = torch.from_numpy(td).unfold(0, sequence.length, 1)[first]
        real = torch.from_numpy(~rollout.dummy).unfold(0, sequence.length, 1)[first]
        if sequence.length > 1:
            priority = sequence_priority(errors.flatten(0, 1), real.flatten(0, 1), sequence.eta).view(t, -1).numpy()
            valid = real.any(-1).numpy()
            valid[np.arange(t) % sequence.stride != 0] = False
        else:
            priority, valid = errors[..., 0].numpy(), real[..., 0].numpy()
        # values that overflow would otherwise end the run in the shard, before the learner can say why
        return valid, np.nan_to_num(priority, nan=0.0, posinf=1e6).astype(np.float32)

    def _errors(self, rollout: Rollout) -> np.ndarray:
        """|TD| of every step that n more follow, `[T+L-n+1, N]`."""
        agent, n = self.agent, self.agent.n_step

        def windows(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).unfold(0, n, 1)

        reward = transform_reward(torch.from_numpy(rollout.reward), agent.reward)
        if agent.bonus.kind == "ngu":
            reward = reward + torch.from_numpy((self.beta * rollout.bonus).astype(np.float32))
        discount = torch.from_numpy(self.discount.astype(np.float32))
        target = n_step(windows(reward.numpy()), windows(rollout.terminated), windows(rollout.last), discount)
        count = len(target.returns)
        rows, columns = np.arange(count)[:, None], np.arange(rollout.q.shape[1])[None]
        later = np.minimum(rows + target.steps.numpy(), len(rollout.q) - 1)  # the very last one starts no window
        bootstrap = torch.from_numpy(rollout.q[later, columns].max(-1))
        value = torch.from_numpy(rollout.q[rows, columns, rollout.action[:count]])
        goal = self.head.scaled(target.returns + target.discount * self.head.unscaled(bootstrap))
        return (goal - value).abs().numpy()
