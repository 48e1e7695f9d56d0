"""The door `distdqn pretrain`: an autoencoder on what a random agent sees, its encoder the agent's torso. Everything
happens in this process: it takes minutes, and there is nothing to coordinate."""

import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from distdqn.act.history import History
from distdqn.config import AuxiliaryConfig, RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env, make_env
from distdqn.learn.auxiliary import Autoencoder
from distdqn.learn.device import pick_device
from distdqn.learn.pretrained import save_torso
from distdqn.nets.qnetwork import QNetwork, as_floats, stack_frames
from distdqn.types import EnvSpec

SLOTS = 8
SHOWN = 8
"""Images in the picture, not seen in training."""
REPORTS = 10
SIZE = 1e-3
"""Weight of the features' mean square beside the reconstruction loss."""


def pretrain(overrides: list[str], images: int, updates: int, out: Path) -> int:
    """Trains the torso of the config that `overrides` compose, writes it and a picture. Gives the exit code. Raises
    `ConfigError`: a bad key or value, one line that names it.

    Args:
        images: how many of a random agent.
        updates: on minibatches of learner.batch_size.
        out: the file of weights; the picture lies beside it.
    """
    config = compose(overrides)
    spec = check_env(config.env)
    torso = config.agent.network.torso
    if not spec.pixels or torso.flat:
        here = "images" if spec.pixels else "vectors"
        torso.wrong("kind", f"pretraining needs a convolutional torso and images, here are {here}")
    torch.set_num_threads(config.learner.threads)
    torch.manual_seed(config.seed)
    seen = collect(config, spec, images + SHOWN)
    print(f"{images} images of {spec.name} by a random agent")
    device = pick_device(config.learner.device)
    network = QNetwork(config.agent.network, spec).to(device)
    network.centre(torch.from_numpy(seen[:, -1]).to(device))
    autoencoder = Autoencoder(AuxiliaryConfig("autoencoder"), network, spec).to(device)
    fit(network, autoencoder, seen[SHOWN:], updates, config)
    save_torso(network, out.absolute())
    picture = out.absolute().with_suffix(".png")
    error = draw(network, autoencoder, seen[:SHOWN], spec.channels, picture)
    print(f"{out.absolute()}: train with agent.network.torso.pretrained={out}")
    drawn = f"{error:.4f} mean absolute error of a pixel in [0, 1]"
    print(f"{picture}: above what was seen, below what was drawn; {drawn}")
    return 0


def collect(config: RunConfig, spec: EnvSpec, count: int) -> np.ndarray:
    """`count` observations of a uniformly random agent, in a random order, `[count, S * C, H, W]`."""
    env = make_env(config.env, SLOTS, 1, config.seed)
    rng = np.random.default_rng(config.seed)
    steps = math.ceil(count / SLOTS)
    history = History(spec, env.reset())
    images = []
    for _ in range(steps):
        stacks = torch.from_numpy(history.stacks.swapaxes(0, 1).copy())
        images.append(stack_frames(stacks, torch.from_numpy(history.age), spec.stack).numpy())
        step = env.step(rng.integers(0, spec.num_actions, SLOTS))
        history.push(step.frame, step.last)
    env.close()
    return np.concatenate(images)[rng.permutation(steps * SLOTS)[:count]]


def fit(network: QNetwork, decoder: Autoencoder, images: np.ndarray, updates: int, config: RunConfig) -> list[float]:
    """Adam on minibatches of `images`; gives the reconstruction loss of every update. A decoder is content with
    features of any size, and theirs grows a thousandfold: the first Q-values would be as large, and learning would
    begin with forgetting them. `SIZE` times the mean square of the features keeps it about 1."""
    device = next(network.parameters()).device
    optimizer = torch.optim.Adam([*network.torso.parameters(), *decoder.parameters()], lr=1e-3)
    rng = np.random.default_rng(config.seed)
    size = min(config.learner.batch_size, len(images), 128)
    losses: list[float] = []
    start = time.monotonic()
    for update in range(1, updates + 1):
        batch = torch.from_numpy(images[rng.integers(0, len(images), size)]).to(device)
        features = network.torso(network.scaled(batch))
        loss = decoder.error(features, batch)
        optimizer.zero_grad(set_to_none=True)
        (loss + SIZE * features.square().mean()).backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        if update % max(1, updates // REPORTS) == 0:
            took = time.monotonic() - start
            print(f"{update} of {updates} updates | loss {np.mean(losses[-50:]):.4f} | {took:.0f} s", flush=True)
    return losses


@torch.no_grad()
def draw(network: QNetwork, autoencoder: Autoencoder, images: np.ndarray, channels: int, path: Path) -> float:
    """Writes the newest frames of `images`, their channels' mean, and, below, their reconstructions; gives the mean
    absolute error."""
    network.eval()
    seen = torch.from_numpy(images).to(next(network.parameters()).device)
    drawn = autoencoder.logits(network, seen).sigmoid()
    network.train()
    error = float((drawn - as_floats(seen)).abs().mean())
    newest = torch.stack([as_floats(seen), drawn])[:, :, -channels:].mean(2)
    rows = (newest.cpu().numpy() * 255).round().astype(np.uint8)
    zoom = max(1, 128 // rows.shape[2])
    tiles = np.pad(rows.repeat(zoom, 2).repeat(zoom, 3), ((0, 0), (0, 0), (2, 2), (2, 2)), constant_values=128)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.concatenate(list(row), 1) for row in tiles], 0)).save(path)
    return error
