"""Torsos that have learned to see before they learn to act: files of weights."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from distdqn.config import ConfigError
from distdqn.nets.qnetwork import QNetwork

PARTS = ("torso.", "mean_frame")


def save_torso(network: QNetwork, path: Path) -> None:
    """Writes what the torso is made of, and the mean frame where there is one; in one piece or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.part")
    save_file({n: v.contiguous() for n, v in network.state_dict().items() if n.startswith(PARTS)}, passing)
    passing.replace(path)


def load_torso(network: QNetwork, path: str) -> None:
    """Takes over what `save_torso` of the same torso wrote. Raises `ConfigError` for anything else."""
    key = f"agent.network.torso.pretrained={path}"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{key}: cannot be read ({str(error).splitlines()[0]})") from None
    own = {n: v for n, v in network.state_dict().items() if n.startswith(PARTS)}
    if own.keys() != weights.keys() or any(own[n].shape != weights[n].shape for n in own):
        why = "belongs to another agent.network.torso.kind, its width or normalization, or to other frames"
        raise ConfigError(f"{key}: {why}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])
