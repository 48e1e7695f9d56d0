"""One of each part that can come from outside the package, as a user writes them, and how each is named.

    distdqn train env.kind=tests.example.parts:Corridor env.kwargs.length=6 \
        agent.network.torso.kind=tests.example.parts:Residual agent.network.torso.kwargs.units=32 \
        agent.network.memory.kind=tests.example.parts:Leaky agent.network.memory.size=32 \
        agent.network.head.kind=tests.example.parts:LogCosh \
        agent.bootstrap.kind=tests.example.parts:Mellowmax \
        agent.exploration.kind=tests.example.parts:Sticky \
        agent.auxiliary.kind=tests.example.parts:Terminal
    distdqn train env.kind=tests.example.parts:Street agent.network.torso.kind=tests.example.parts:Convolutional
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distdqn.act.exploration import EpsilonGreedy
from distdqn.config import AuxiliaryConfig, EnvConfig, MemoryConfig, TorsoConfig
from distdqn.learn.auxiliary import Auxiliary, observed
from distdqn.learn.bellman import Bootstrap
from distdqn.learn.minibatch import Minibatch
from distdqn.nets.heads import ScalarHead, Values
from distdqn.nets.memory import Memory
from distdqn.nets.qnetwork import QNetwork
from distdqn.nets.torso import Torso
from distdqn.types import EnvSpec, EnvStep


class Corridor:
    """An environment: N corridors of `length` cells; walking right to the end gives 1 and ends the episode.

    Observations are the one-hot cell. After an end, the next step ignores its action and shows the first cell again.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int, length: int = 6) -> None:
        self.spec = EnvSpec("corridor", (length,), "float32", 1, 2, action_names=("left", "right"))
        self.num_slots, self.length = num_slots, length
        self.cell, self.age, self.last = np.zeros((3, num_slots), np.int64)

    def reset(self) -> np.ndarray:
        """The first frames, float32 `[N, length]`."""
        return np.eye(self.length, dtype=np.float32)[self.cell]

    def step(self, action: np.ndarray) -> EnvStep:
        """One step of all slots."""
        dummy = self.last.astype(bool)
        self.cell = np.where(dummy, 0, np.clip(self.cell + 2 * action - 1, 0, self.length - 1))
        self.age = np.where(dummy, 0, self.age + 1)
        terminated = ~dummy & (self.cell == self.length - 1)
        self.last = terminated | (self.age == 10 * self.length)
        return EnvStep(self.reset(), terminated.astype(np.float32), terminated, self.last.copy())

    def render(self) -> np.ndarray:
        """A picture of the first slot for films, uint8 `[H, W, 3]`."""
        return np.repeat(self.reset()[:1, :, None] * 255, 3, 2).astype(np.uint8).repeat(16, 0).repeat(16, 1)

    def close(self) -> None:
        """Nothing to free."""


class Street(Corridor):
    """An environment of images `(H, W, C)`: the corridor from above, who walks there red, where it ends green."""

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int, length: int = 6) -> None:
        super().__init__(config, num_slots, threads, seed, length)
        self.spec = EnvSpec("street", (3, length, 3), "uint8", config.stack, 2, action_names=("left", "right"))

    def reset(self) -> np.ndarray:
        frames = np.zeros((self.num_slots, *self.spec.frame_shape), np.uint8)
        frames[np.arange(self.num_slots), 1, self.cell, 0] = 255
        frames[:, :, -1, 1] = 255
        return frames

    def render(self) -> np.ndarray:
        return self.reset()[0].repeat(16, 0).repeat(16, 1)


class Convolutional(Torso):
    """A torso for images, whose `shape` is stacked frames times channels, height, width; floats from 0 to 1."""

    def __init__(self, config: TorsoConfig, shape: tuple[int, ...], channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(shape[0], channels, 3, padding=1), nn.ReLU(), nn.Flatten())
        self.features = channels * shape[1] * shape[2]

    def forward(self, observation: Tensor) -> Tensor:
        return self.layers(observation)


class Residual(Torso):
    """A torso: a linear layer and a residual block. It says how wide its `features` are."""

    def __init__(self, config: TorsoConfig, shape: tuple[int, ...], units: int = 64) -> None:
        super().__init__()
        self.features = units
        self.entry = nn.Linear(int(np.prod(shape)), units)
        self.block = nn.Sequential(nn.ReLU(), nn.Linear(units, units))

    def forward(self, observation: Tensor) -> Tensor:
        x = self.entry(observation.flatten(1))
        return (x + self.block(x)).relu()


class Leaky(Memory):
    """A memory: a leaky sum of what was seen. Its state is one vector `[B, size]`, zeros at an episode's start."""

    def __init__(self, config: MemoryConfig, features: int) -> None:
        super().__init__()
        self.features = self.size = config.size
        self.input = nn.Linear(features, config.size)
        self.leak = nn.Parameter(torch.zeros(config.size))

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        state = torch.lerp(self.input(features).tanh(), state, self.leak.sigmoid())
        return state, state

    def unroll(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        outputs = []
        for x, begins in zip(features.unbind(1), start.unbind(1), strict=True):
            output, state = self(x, state.masked_fill(begins.unsqueeze(1), 0))
            outputs.append(output)
        return torch.stack(outputs, 1), state


class LogCosh(ScalarHead):
    """A loss: log cosh of the TD error. It lives in the head, whose values it is for."""

    def loss(self, values: Values, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        error = target - values.q.gather(1, action.unsqueeze(1)).squeeze(1)
        return error.abs() + F.softplus(-2 * error.abs()) - np.log(2), error.detach().abs()


class Mellowmax(Bootstrap):
    """A bootstrap: log mean exp(omega q) / omega, as a bonus over the uniform policy's mean (Asadi, Littman 2017)."""

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        omega = 1 / self.config.temperature
        value = (torch.logsumexp(omega * q, -1, keepdim=True) - np.log(q.shape[-1])) / omega
        return torch.full_like(q, 1 / q.shape[-1]), value - q


class Sticky(EpsilonGreedy):
    """An exploration scheme: with probability `repeat` a slot does again what it did last."""

    def __init__(self, *args: Any, repeat: float = 0.2) -> None:
        super().__init__(*args)
        self.repeat, self.before = repeat, np.zeros(len(self.places), np.int64)

    def epsilons(self, env_steps: int) -> np.ndarray:
        return np.full(len(self.places), self.config.epsilon)

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        again = self.rng.random(len(q)) < self.repeat
        self.before = np.where(again, self.before, super().actions(q, env_steps))
        return self.before


class Terminal(Auxiliary):
    """An auxiliary loss: whether the step ends the episode, from the torso's features; its accuracy is recorded."""

    def __init__(self, config: AuxiliaryConfig, network: QNetwork, spec: EnvSpec) -> None:
        super().__init__()
        self.weight, self.stack = config.weight, spec.stack
        self.logit = nn.Linear(network.torso.features, 1)

    def loss(self, network: QNetwork, batch: Minibatch) -> tuple[Tensor | None, dict[str, Tensor]]:
        features = network.torso(network.scaled(observed(batch, 0, self.stack)))
        logit, ends = self.logit(features).squeeze(1), batch.terminated[:, 0]
        right = ((logit > 0) == ends).float().mean()
        return F.binary_cross_entropy_with_logits(logit, ends.float()), {"terminal_accuracy": right}
