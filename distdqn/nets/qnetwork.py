"""The Q-network: torso -> memory -> head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from distdqn.config import NetworkConfig
from distdqn.nets.head import DuelingHead, ScalarHead
from distdqn.nets.initialise import initialise
from distdqn.nets.memory import NoMemory
from distdqn.nets.torso import make_torso
from distdqn.types import EnvSpec


class QNetwork(nn.Module):
    """Action values of observations.

    `forward` takes `[B, S, H, W]` uint8 (scaled to [0, 1] here) or `[B, D]` float32 and the recurrent state
    `[B, M]` or None, and gives Q float32 `[B, A]` and the next state.
    """

    mean_frame: Tensor

    def __init__(self, config: NetworkConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.bf16 = False
        """Runs the torso in bfloat16; the head stays in float32, where small differences decide."""
        self.scale = spec.frame_dtype == "uint8"
        self.contrast = config.contrast if self.scale else 0.0
        self.mean_frame: Tensor
        if self.contrast:
            self.register_buffer("mean_frame", torch.zeros(spec.frame_shape))
        self.torso = make_torso(config.torso, spec.observation_shape)
        self.memory = NoMemory(self.torso.features)
        if config.dueling:
            self.head: nn.Module = DuelingHead(self.memory.features, config.hidden, spec.num_actions)
        else:
            table = config.torso == "tabular"
            self.head = ScalarHead(self.memory.features, config.hidden, spec.num_actions, table)
        initialise(self, config.initialise)

    def forward(self, observation: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return self.values(self.scaled(observation), state)

    def scaled(self, observation: Tensor) -> Tensor:
        """What the torso sees: float32, pixels in [0, 1] or, with `contrast`, around the mean frame."""
        if self.scale:
            observation = observation.float() / 255
        if self.contrast:
            observation = (observation - self.mean_frame) * self.contrast
        return observation

    def values(self, scaled: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """As `forward`, of an observation that is scaled already."""
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.torso(scaled)
        features, state = self.memory(features.float(), state)
        return self.head(features), state

    @torch.no_grad()
    def centre(self, frames: Tensor) -> None:
        """Measures the mean frame on `frames` uint8 `[..., H, W]`, where `contrast` asks for it and it has not
        been measured yet."""
        if self.contrast and not self.mean_frame.any():
            self.mean_frame.copy_(frames.flatten(0, -3).float().mean(0) / 255)

    def arrays(self) -> dict[str, np.ndarray]:
        """A copy of the parameters and buffers by name, on the CPU."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}

    def load_arrays(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes over what `arrays` of the same network gave.

        Raises:
            ValueError: other names or shapes, so another network.
        """
        own = self.state_dict()
        if own.keys() != arrays.keys() or any(own[k].shape != arrays[k].shape for k in own):
            raise ValueError("these weights belong to another network: agent.network or the environment differs")
        with torch.no_grad():
            for name, value in own.items():
                # the arrays may be read-only views of shared memory, which from_numpy warns about
                value.copy_(torch.from_numpy(np.array(arrays[name])))


def stack_frames(frames: Tensor, age: Tensor, stack: int) -> Tensor:
    """Observations from consecutive frames, planes from before the episode set to zero.

    Args:
        frames: `[B, S, H, W]`, oldest first.
        age: int `[B]`, steps since the episode began, at the newest frame.
        stack: S; 1 leaves the frames alone.
    """
    if stack == 1:
        return frames
    back = torch.arange(stack - 1, -1, -1, device=frames.device)
    return frames * (back <= age.unsqueeze(1)).to(frames.dtype)[:, :, None, None]
