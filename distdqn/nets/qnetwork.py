"""The Q-network: torso -> memory -> head."""

import torch
import torch.nn.functional as F
from torch import Tensor

from distdqn.config import NetworkConfig
from distdqn.config.section import build
from distdqn.nets.arrays import ArrayModule
from distdqn.nets.heads import HEADS, Head, Values
from distdqn.nets.initialize import initialize
from distdqn.nets.memory import MEMORIES, Memory
from distdqn.nets.torso import make_torso
from distdqn.types import EnvSpec


class QNetwork(ArrayModule):
    """Action values of observations, and of what came before them.

    The state of a slot, float32 `[M]`, is all that the network knows of the past:

        memory's own numbers | previous action + 1, previous reward | context

    the middle two where `config.previous` asks for them (0, 0 at an episode's start), the last where there are several
    `contexts`, the number of the one that the slot plays under (NGU's mixture). M may be 0. `contexts`: how many there
    are; their number is a one-hot input.
    """

    mean_frame: Tensor

    def __init__(self, config: NetworkConfig, spec: EnvSpec, contexts: int = 1) -> None:
        super().__init__()
        self.bf16 = False
        """Runs all but the last layers in bfloat16; those stay in float32, where small differences decide."""
        self.contrast = config.contrast if spec.frame_dtype == "uint8" and len(spec.frame_shape) == 2 else 0.0
        if self.contrast:
            self.register_buffer("mean_frame", torch.zeros(spec.frame_shape))
        self.actions, self.contexts = spec.num_actions, contexts
        self.previous, self.context = 2 * config.previous, int(contexts > 1)
        self.torso = make_torso(config.torso, spec.observation_shape)
        self.inputs = self.torso.features + (spec.num_actions + 1) * config.previous + contexts * self.context
        self.memory: Memory = build(config.memory, MEMORIES, self.inputs)
        self.head: Head = build(config.head, HEADS, self.memory.features, spec.num_actions)
        initialize(self, config.initializer)

    def keep_planes_last(self) -> None:
        """Lays the weights of convolutions out with their planes last, in place; maps follow, values stay the same."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def state_size(self) -> int:
        """M."""
        return int(self.memory.size) + self.previous + self.context

    def initial(self, context: Tensor) -> Tensor:
        """The state at an episode's start, float32 `[N, M]`, of slots under `context` int64 `[N]`."""
        state = torch.zeros(len(context), self.state_size)
        if self.context:
            state[:, -1] = context
        return state

    def remember(self, state: Tensor, action: Tensor, reward: Tensor) -> None:
        """Puts what was done last into `state` `[N, M]`, in place: `action` int64 `[N]`, `reward` float32 `[N]`."""
        if self.previous:
            at = int(self.memory.size)
            state[:, at], state[:, at + 1] = action + 1, reward

    def forward(
        self, observation: Tensor, state: Tensor | None = None, tau: Tensor | None = None
    ) -> tuple[Values, Tensor | None]:
        """One step.

        Args:
            observation: `[B, S * C, H, W]` uint8 (scaled to [0, 1] here) or bool, or `[B, D]` float32.
            state: float32 `[B, M]`; None where M = 0.
            tau: float32 `[B, Z]`, quantile fractions for an implicit quantile head; None: fixed ones.
        """
        return self.values(self.scaled(observation), state, tau)

    def scaled(self, observation: Tensor) -> Tensor:
        """What the torso sees: float32, pixels in [0, 1] or, with `contrast`, around the mean frame."""
        observation = as_floats(observation)
        if self.contrast:
            observation = (observation - self.mean_frame) * self.contrast
        return observation

    def values(
        self, scaled: Tensor, state: Tensor | None = None, tau: Tensor | None = None
    ) -> tuple[Values, Tensor | None]:
        """As `forward`, of an observation that is scaled already."""
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.torso(scaled)
            if state is None or not self.state_size:
                return self.head(features, tau), state
        own, rest = state[:, : self.memory.size], state[:, self.memory.size :]
        action, reward, context = self._past(rest)
        features, own = self.memory(self._inputs(features.float(), action, reward, context), own)
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.bf16):
            return self.head(features, tau), torch.cat([own, rest], -1)

    def unroll(
        self, observed: Tensor, state: Tensor, start: Tensor, action: Tensor, reward: Tensor, tau: Tensor | None = None
    ) -> tuple[Values, Tensor]:
        """T steps of B slots, in one piece. Gives the values of all steps, the first dimension B * T (row b * T + t),
        and the state after the last step.

        Args:
            observed: `[B, T, S * C, H, W]` uint8 or bool, or `[B, T, D]` float32.
            state: float32 `[B, M]`, before the first step.
            start: bool `[B, T]`, an episode begins at this step, so that the state is as at a start before it.
            action, reward: int64, float32 `[B, T]`, what followed each step; those of the step before are inputs.
            tau: float32 `[B * T, Z]`.
        """
        b, t = start.shape
        with torch.autocast(observed.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.torso(self.scaled(observed.flatten(0, 1)))
            if not self.state_size:
                return self.head(features, tau), state
        own, rest = state[:, : self.memory.size], state[:, self.memory.size :]
        last_action, last_reward, context = self._past(rest)
        actions = torch.cat([last_action.unsqueeze(1), action[:, :-1] + 1], 1).masked_fill(start, 0)
        rewards = torch.cat([last_reward.unsqueeze(1), reward[:, :-1]], 1).masked_fill(start, 0)
        contexts = context.unsqueeze(1).expand(b, t)
        inputs = self._inputs(features.float().view(b, t, -1), actions, rewards, contexts)
        features, own = self.memory.unroll(inputs, own, start)
        if self.previous:
            rest = rest.clone()
            rest[:, 0], rest[:, 1] = action[:, -1] + 1, reward[:, -1]
        with torch.autocast(observed.device.type, torch.bfloat16, enabled=self.bf16):
            return self.head(features.flatten(0, 1), tau), torch.cat([own, rest], -1)

    def _past(self, rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Previous action + 1, previous reward and context `[B]`; zeros where they are no inputs."""
        none = torch.zeros(len(rest), device=rest.device)
        action, reward = (rest[:, 0], rest[:, 1]) if self.previous else (none, none)
        return action.long(), reward, (rest[:, -1] if self.context else none).long()

    def _inputs(self, features: Tensor, action: Tensor, reward: Tensor, context: Tensor) -> Tensor:
        """What the memory sees: float32 `[..., inputs]`. Rewards go in as tanh r, so that no scale is too large."""
        parts = [features]
        if self.previous:
            parts += [F.one_hot(action, self.actions + 1)[..., 1:].float(), reward.tanh().unsqueeze(-1)]
        if self.context:
            parts.append(F.one_hot(context, self.contexts).float())
        return torch.cat(parts, -1)

    @torch.no_grad()
    def centre(self, frames: Tensor) -> None:
        """Measures the mean frame on `frames` uint8 `[..., H, W]`, once, where `contrast` asks for it."""
        if self.contrast and not self.mean_frame.any():
            self.mean_frame.copy_(frames.flatten(0, -3).float().mean(0) / 255)


def as_floats(observation: Tensor) -> Tensor:
    """float32: bytes as numbers in [0, 1], flags as 0 and 1, floats as they are."""
    return observation.float() / 255 if observation.dtype == torch.uint8 else observation.float()


def stack_frames(frames: Tensor, age: Tensor, stack: int) -> Tensor:
    """Observations from consecutive frames, `[B, S * C, H, W]`, planes from before the episode set to zero.

    Args:
        frames: `[B, S, H, W]` or `[B, S, H, W, C]`, oldest first.
        age: int `[B]`, steps since the episode began, at the newest frame.
        stack: S; 1 masks nothing.
    """
    if stack > 1:
        back = torch.arange(stack - 1, -1, -1, device=frames.device)
        seen = (back <= age.unsqueeze(1)).to(frames.dtype)
        frames = frames * seen.view(*seen.shape, *[1] * (frames.dim() - 2))
    return frames if frames.dim() == 4 else frames.movedim(-1, 2).flatten(1, 2)
