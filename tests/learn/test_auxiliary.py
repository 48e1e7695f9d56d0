"""What is learned beside action values: reconstructions, and novelty."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from distdqn.act.policy import Policy
from distdqn.config import AuxiliaryConfig, BonusConfig, SequenceConfig
from distdqn.learn.auxiliary import Autoencoder
from distdqn.learn.novelty_auxiliary import NoveltyAuxiliary
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec
from tests.configs import network_config
from tests.learn.helpers import MLP, VECTOR, assert_same, differ, make_learner, update
from tests.learn.stream import observation, stream

Make = Callable[..., Batch]
IMAGES = EnvSpec("images", (12, 12), "uint8", 2, 3)
SMALL = network_config(torso="small", hidden=(8,))
NGU = BonusConfig(kind="ngu", embedding=4)


def squares(rng: np.random.Generator, rows: int) -> np.ndarray:
    """A bright square somewhere on two planes, uint8 `[rows, 2, 12, 12]`."""
    images = np.zeros((rows, 2, 12, 12), np.uint8)
    for row, (y, x) in enumerate(rng.integers(0, 8, (rows, 2))):
        images[row, :, y : y + 4, x : x + 4] = 255
    return images


def error_of(autoencoder: Autoencoder, network: QNetwork, images: torch.Tensor) -> torch.Tensor:
    """Its loss on `images`."""
    return autoencoder.error(network.torso(network.scaled(images)), images)


def test_the_autoencoder_learns_to_draw() -> None:
    torch.manual_seed(0)
    network = QNetwork(SMALL, IMAGES)
    autoencoder = Autoencoder(AuxiliaryConfig("autoencoder"), network, IMAGES)
    optimizer = torch.optim.Adam([*network.torso.parameters(), *autoencoder.parameters()], lr=5e-3)
    rng = np.random.default_rng(0)
    held_out = torch.from_numpy(squares(rng, 32))
    assert autoencoder.logits(network, held_out).shape == (32, 2, 12, 12)

    def error() -> float:
        drawn = autoencoder.logits(network, held_out).detach().sigmoid()
        return (drawn - held_out / 255).square().mean().item()

    before = error()
    for _ in range(150):
        optimizer.zero_grad()
        error_of(autoencoder, network, torch.from_numpy(squares(rng, 32))).backward()
        optimizer.step()
    blank = (held_out / 255).var().item()  # of one grey for all pixels
    assert error() < 0.4 * blank < before


def test_its_loss_is_the_mean_cross_entropy_of_pixels_and_reaches_the_torso() -> None:
    network = QNetwork(SMALL, IMAGES)
    autoencoder = Autoencoder(AuxiliaryConfig("autoencoder"), network, IMAGES)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 12, 12), np.uint8))
    loss = error_of(autoencoder, network, images)
    p, x = autoencoder.logits(network, images).sigmoid(), images / 255
    assert loss.item() == pytest.approx(-(x * p.log() + (1 - x) * (1 - p).log()).mean().item(), rel=1e-4)
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in network.torso.parameters())
    assert all(p.grad is None for p in network.head.parameters())
    assert all(p.grad is not None for p in autoencoder.parameters())


def test_the_learner_minimises_its_weighted_loss(make_batch: Make) -> None:
    """Plain SGD: the weights differ from those without it by -lr weight times its gradient."""
    settings = {"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": None}
    batch = make_batch(IMAGES, (6,), seed=1)
    batch.age[:] = np.arange(3) + np.arange(6)[:, None] % 2  # some planes are from before the episode
    one = make_learner(IMAGES, SMALL, **settings)
    two = make_learner(IMAGES, SMALL, agent={"auxiliary": "autoencoder", "auxiliary_weight": 0.3}, **settings)
    decoder = two.auxiliaries["auxiliary"]
    assert isinstance(decoder, Autoencoder)
    two.restore({**two.state(), "online": one.online.arrays(), "target": one.target.arrays()})
    seen = batch.frames[:, :2].copy()
    seen[batch.age[:, 0] == 0, 0] = 0
    parameters = [*two.online.torso.parameters(), *decoder.parameters()]
    own = [*two.online.torso.parameters()], [*one.online.torso.parameters()]
    before = [p.detach().clone() for p in decoder.parameters()]
    gradients = torch.autograd.grad(error_of(decoder, two.online, torch.from_numpy(seen)), parameters)
    for learner in (one, two):
        update(learner, batch)
    moved = [a.detach() - b.detach() for a, b in zip(*own, strict=True)]
    moved += [p.detach() - b for p, b in zip(decoder.parameters(), before, strict=True)]
    for by, gradient in zip(moved, gradients, strict=True):
        torch.testing.assert_close(by, -0.5 * 0.3 * gradient, rtol=1e-3, atol=1e-6)
    assert_same(*({n: v for n, v in x.online.arrays().items() if n.startswith("head.")} for x in (one, two)))


@pytest.mark.parametrize("augment", ["none", "both"])
def test_it_draws_beside_a_network_in_bfloat16(make_batch: Make, augment: str) -> None:
    learner = make_learner(
        IMAGES,
        SMALL,
        precision="bfloat16",
        augment=augment,
        agent={"auxiliary": "autoencoder", "auxiliary_weight": 0.3},
    )
    before = learner.online.arrays()
    _, stats = update(learner, make_batch(IMAGES, (6, 6)))
    assert stats.updates == 2 and np.isfinite(stats.metrics["loss"])
    assert differ(before, learner.online.arrays())


def test_the_decoder_stays_on_the_learner(make_batch: Make) -> None:
    learner = make_learner(IMAGES, SMALL, agent={"auxiliary": "autoencoder", "auxiliary_weight": 0.3})
    assert learner.weights().arrays.keys() == make_learner(IMAGES, SMALL).weights().arrays.keys()
    before = learner.state()
    update(learner, make_batch(IMAGES))
    assert differ(before["auxiliaries"]["auxiliary"], learner.state()["auxiliaries"]["auxiliary"])


def test_weights_carry_the_novelty_networks_and_a_policy_ignores_them(make_batch: Make) -> None:
    learner = make_learner(agent={"bonus": NGU})
    update(learner, make_batch(VECTOR, bonus=True))
    weights = learner.weights()
    assert "novelty" in learner.auxiliaries
    novelty = {n.removeprefix("novelty/"): v for n, v in weights.arrays.items() if n.startswith("novelty/")}
    assert_same(novelty, learner.auxiliaries["novelty"].network.arrays())
    assert len(weights.arrays) == len(novelty) + len(learner.online.arrays())
    policy = Policy(learner.agent, VECTOR, 3)
    policy.load(weights)
    assert_same(policy.network.arrays(), learner.online.arrays())
    seen = np.random.default_rng(0).standard_normal((3, 5), np.float32)
    expected = learner.online(torch.from_numpy(seen))[0].q.detach().numpy()
    np.testing.assert_allclose(policy.q_values(seen, np.ones(3, np.int32)), expected, rtol=1e-5)


@pytest.mark.parametrize("spec", [VECTOR, IMAGES], ids=["vector", "pixels"])
@pytest.mark.parametrize("burn_in", [0, 2])
def test_novelty_learns_from_the_first_loss_position(spec: EnvSpec, burn_in: int) -> None:
    """Rows that are dummies there, or whose episode ends there, are left out."""
    sequence = SequenceConfig(length=3, burn_in=burn_in)
    network = network_config(MLP, memory="gru", memory_size=4) if burn_in else MLP
    learner = make_learner(spec, network, seed=2, agent={"bonus": NGU, "sequence": sequence, "n_step": 1})
    batch, episode = stream(spec, 16, burn_in + 3, memory=learner.online.state_size, seed=3, ends=0.3)
    update(learner, batch)
    assert "novelty" in learner.auxiliaries
    rows = [r for r in range(16) if batch.age[r, burn_in] >= 0 and not batch.last[r, burn_in]]
    assert 4 < len(rows) < 16
    x, y = (np.stack([observation(spec, batch, episode, r, k) for r in rows]) for k in (burn_in, burn_in + 1))
    other = NoveltyAuxiliary(NGU, spec, 2)
    action = torch.from_numpy(batch.action[rows, burn_in])
    other.update(torch.from_numpy(x), action, torch.from_numpy(y), torch.ones(len(rows), dtype=torch.bool))
    assert_same(learner.auxiliaries["novelty"].network.arrays(), other.network.arrays())


def test_a_bad_update_teaches_novelty_nothing(make_batch: Make) -> None:
    learner = make_learner(agent={"bonus": NGU, "reward": "none"})
    assert "novelty" in learner.auxiliaries
    before = learner.auxiliaries["novelty"].network.arrays()
    batch = make_batch(VECTOR, bonus=True)
    batch.reward[0, 0] = np.nan
    assert update(learner, batch)[1].skipped == 1
    assert_same(learner.auxiliaries["novelty"].network.arrays(), before)
