"""The networks behind the intrinsic reward of Never Give Up (Badia et al. 2020, section 2 and figure 1)."""

import torch
from torch import Tensor, nn

from distdqn.config import BonusConfig, TorsoConfig
from distdqn.nets.arrays import ArrayModule
from distdqn.nets.initialize import initialize
from distdqn.nets.qnetwork import as_floats
from distdqn.nets.torso import make_torso
from distdqn.types import EnvSpec

HIDDEN = 128
PREFIX = "novelty/"
"""In front of the names of the arrays that the actors get."""


class Normalizer(nn.Module):
    """(x - mean) / std of each component, clipped to +-5 (Burda et al. 2019, section 2.4): a random network can not
    adapt to the scale of its inputs. Mean and variance: of all that `measure` has seen, 0 and 1 before."""

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))

    @torch.no_grad()
    def measure(self, inputs: Tensor) -> None:
        """Takes `inputs` float32 `[B, ...]` into mean and variance (Chan et al. 1979)."""
        self.count += len(inputs)
        share = len(inputs) / self.count
        variance, mean = torch.var_mean(inputs, 0, correction=0)
        shift = mean - self.mean
        self.mean += share * shift
        self.variance += share * (variance - self.variance + (1 - share) * shift.square())

    def forward(self, inputs: Tensor) -> Tensor:
        # the constant keeps rounding errors of components that never change from being blown up
        return ((inputs - self.mean) / (self.variance + 1e-6).sqrt()).clamp(-5, 5)


def _features(spec: EnvSpec) -> tuple[nn.Module, int]:
    if spec.pixels:
        torso = make_torso(TorsoConfig("small"), spec.observation_shape)
        return torso, torso.features
    return nn.Sequential(nn.Linear(spec.observation_shape[0], HIDDEN), nn.ReLU()), HIDDEN


class NoveltyNetwork(ArrayModule):
    """The embedding with its inverse dynamics, and a random network with its predictor.

    Observations are `[B, S * C, H, W]` uint8 or bool, or `[B, D]` float32 throughout; they are normalized here, by what
    `measure` has seen. E is `config.embedding`. The random network never changes; `arrays` carries it too.
    """

    key = "agent.bonus"

    def __init__(self, config: BonusConfig, spec: EnvSpec) -> None:
        super().__init__()
        self.normalize = Normalizer(spec.observation_shape)
        torso, features = _features(spec)
        size, out = config.embedding, 4 * config.embedding
        self.embedding = nn.Sequential(torso, nn.Linear(features, size))
        self.inverse = nn.Sequential(nn.Linear(2 * size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, spec.num_actions))
        torso, features = _features(spec)
        self.random = nn.Sequential(torso, nn.Linear(features, out))
        # PyTorch's default start makes networks that answer nearly the same to everything
        initialize(self.random, "orthogonal")
        self.random.requires_grad_(False)
        torso, features = _features(spec)
        self.predictor = nn.Sequential(torso, nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, out))

    def measure(self, observation: Tensor) -> None:
        """Takes observations into the mean and variance that inputs are normalized with."""
        self.normalize.measure(as_floats(observation))

    def embed(self, observation: Tensor) -> Tensor:
        """f(x), the controllable state, float32 `[B, E]`."""
        return self.embedding(self._inputs(observation))

    def action_logits(self, embedding_0: Tensor, embedding_1: Tensor) -> Tensor:
        """log p(a | f(x), f(x')) up to a constant, float32 `[B, A]`, of consecutive embeddings `[B, E]`."""
        return self.inverse(torch.cat([embedding_0, embedding_1], -1))

    def distillation_error(self, observation: Tensor) -> Tensor:
        """err(x) = mean over outputs of (predictor(x) - random(x))^2, float32 `[B]` (Burda et al. 2019,
        section 2.2). Its gradient reaches the predictor alone."""
        inputs = self._inputs(observation)
        return (self.predictor(inputs) - self.random(inputs)).square().mean(-1)

    def _inputs(self, observation: Tensor) -> Tensor:
        return self.normalize(as_floats(observation))
