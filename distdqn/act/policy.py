"""Batched inference over an actor's slots."""

from __future__ import annotations

import numpy as np
import torch

from distdqn.config import NetworkConfig
from distdqn.nets.qnetwork import QNetwork, stack_frames
from distdqn.types import EnvSpec, Weights


class Policy:
    """Action values of N slots from a copy of the learner's weights, on the CPU."""

    def __init__(self, config: NetworkConfig, spec: EnvSpec, slots: int) -> None:
        self.network = QNetwork(config, spec).eval()
        self.spec = spec
        self.version = -1
        self.state = self.network.memory.initial(slots)

    def load(self, weights: Weights) -> None:
        """Takes over `weights` unless they are already there."""
        if weights.version != self.version:
            self.network.load_arrays(weights.arrays)
            self.version = weights.version

    @torch.inference_mode()
    def q_values(self, stacks: np.ndarray, age: np.ndarray) -> np.ndarray:
        """Q float32 `[N, A]`.

        Args:
            stacks: `[S, N, H, W]` uint8 as `Segmenter.observe` gives them, or `[N, D]` float32.
            age: int32 `[N]`, steps since each slot's episode began; 0 also restarts its recurrent state.
        """
        if self.spec.pixels:
            observation = torch.from_numpy(np.ascontiguousarray(stacks.swapaxes(0, 1)))
            observation = stack_frames(observation, torch.from_numpy(age), self.spec.stack)
        else:
            observation = torch.from_numpy(stacks)
        if self.state.shape[1]:
            self.state[torch.from_numpy(age == 0)] = 0
        q, state = self.network(observation, self.state)
        self.state = state if state is not None else self.state
        values: np.ndarray = q.numpy()
        return values
