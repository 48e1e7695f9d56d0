"""Batched inference over an actor's slots."""

import numpy as np
import torch

from distdqn.config import AgentConfig
from distdqn.nets.noisy import resample_noise
from distdqn.nets.qnetwork import QNetwork, stack_frames
from distdqn.types import EnvSpec, Weights


class Policy:
    """Action values of N slots from a copy of the learner's weights, on the CPU.

    Loop:
        q = policy.q_values(stacks, age)      # policy.input_state is then the state that they were computed from
        policy.remember(action, reward)       # once the environment has answered

    Args:
        context: int64 `[N]`, the number of the mixture's pair that each slot plays under.
        noise: seed of a noisy network's noise, fresh for every slot and step; None leaves it off.
    """

    def __init__(
        self, agent: AgentConfig, spec: EnvSpec, slots: int, context: np.ndarray | None = None, noise: int | None = None
    ) -> None:
        self.network = QNetwork(agent.network, spec, agent.contexts).eval()
        if agent.network.torso.kind == "impala":  # half the time for its many small convolutions, not for others
            self.network.keep_planes_last()
        self.spec = spec
        self.version = -1
        if context is None:
            context = np.zeros(slots, np.int64)
        self.initial = self.network.initial(torch.from_numpy(context))
        self.state = self.input_state = self.initial.clone()
        self.noise: torch.Generator | None = None
        if noise is not None and agent.network.head.noisy:
            self.noise = torch.Generator().manual_seed(noise)

    def load(self, weights: Weights) -> None:
        """Takes over `weights` unless they are already there."""
        if weights.version != self.version:
            self.network.load_arrays({name: value for name, value in weights.arrays.items() if "/" not in name})
            self.version = weights.version

    @torch.inference_mode()
    def q_values(self, stacks: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Q float32 `[N, A]`.

        Args:
            stacks: as `History.stacks` gives them, `[S, N, *frame_shape]` or `[N, D]` float32.
            age: int32 `[N]`, steps since each slot's episode began; 0 also restarts its recurrent state.
        """
        observation = self.observation(stacks, age)
        if self.noise is not None:
            resample_noise(self.network, len(age), self.noise)
        if self.state.shape[1]:
            self.input_state = torch.where(torch.from_numpy(age == 0).unsqueeze(1), self.initial, self.state)
        values, state = self.network(observation, self.input_state)
        assert state is not None
        self.state = state
        return values.q.numpy()

    def observation(self, stacks: np.ndarray, age: np.ndarray) -> torch.Tensor:
        """What the network sees, `[N, S * C, H, W]` or `[N, D]`; arguments as in `q_values`."""
        if not self.spec.pixels:
            return torch.from_numpy(stacks)
        observation = torch.from_numpy(np.ascontiguousarray(stacks.swapaxes(0, 1)))
        return stack_frames(observation, torch.from_numpy(age), self.spec.stack)

    def remember(self, action: np.ndarray, reward: np.ndarray) -> None:
        """Tells a network with such inputs what was done, int64 `[N]`, and what followed, float32 `[N]`."""
        with torch.inference_mode():
            self.network.remember(self.state, torch.from_numpy(action), torch.from_numpy(reward))
