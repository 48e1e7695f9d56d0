"""What must be true before anything heavy starts."""

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np

from distdqn import checkpoint
from distdqn.act.segmenter import agent_fields
from distdqn.config import ConfigError, Import, RunConfig
from distdqn.config.network import CONVOLUTIONAL
from distdqn.config.section import build
from distdqn.machine import Machine, disk_free, inspect
from distdqn.types import STEP_FIELDS, EnvSpec

GIB = 1024**3
DISK_NEEDED = GIB // 2
"""Checkpoints of the largest of our networks, videos and metrics of a long run."""


def bytes_per_transition(config: RunConfig, spec: EnvSpec) -> float:
    """Replay memory that one transition takes, its priority included."""
    steps, window = config.actors.rollout_steps, config.agent.window
    frames = (spec.stack - 1 + steps + window) * spec.frame_bytes
    per_step = sum(f.nbytes for f in (*STEP_FIELDS, *agent_fields(config.agent))) * (steps + window)
    leaves = 1
    while leaves < config.replay.capacity // config.replay.shards:
        leaves *= 2
    tree = 2 * leaves * 8 * config.replay.shards / config.replay.capacity
    memory = 4 * state_size(config, spec) / config.agent.sequence.stride
    return (frames + per_step + steps) / steps + tree + memory


def state_size(config: RunConfig, spec: EnvSpec) -> int:
    """M, the numbers of a slot's recurrent state: asked of the network itself, which takes no memory on this device."""
    if not config.agent.network.recurrent and config.agent.contexts == 1:
        return 0
    import torch  # late, since it takes seconds

    from distdqn.nets.qnetwork import QNetwork

    with torch.device("meta"):
        return QNetwork(config.agent.network, spec, config.agent.contexts).state_size


def batch_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of what one call of the learner is fed."""
    windows = config.learner.batch_size * config.learner.updates_per_call
    return windows * (spec.stack + config.agent.window) * spec.frame_bytes


def rollout_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of one rollout of all actors together."""
    return config.slots * (config.actors.rollout_steps + config.agent.window + spec.stack) * spec.frame_bytes


def object_store_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Shared memory for everything that can be on its way at once, six times over: Ray frees what nobody holds any
    more with a delay, and starts to write objects to disk when the store is four fifths full."""
    batches = (config.learner.in_flight + 2) * batch_bytes(config, spec)
    rollouts = (config.actors.in_flight + 1) * rollout_bytes(config, spec)
    return max(256 * 1024**2, 6 * (batches + rollouts))


def check(config: RunConfig, spec: EnvSpec, machine: Machine | None = None) -> None:
    """Refuses a run that this machine cannot hold.

    Raises:
        ConfigError: one line that names the key and what would fit.
    """
    machine = machine or inspect()
    _check_observations(config, spec)
    _check_imports(config, spec)
    if config.learner.device.startswith("cuda") and config.engine.address is None:
        index = int(config.learner.device.partition(":")[2] or 0)
        if index >= machine.gpus:
            raise ConfigError(
                f"learner.device={config.learner.device}: no such CUDA device here, there are "
                f"{machine.gpus}; use cpu or auto"
            )
    if config.engine.address is None:
        each = bytes_per_transition(config, spec)
        need = each * config.replay.capacity
        if need > machine.memory_free * 0.9:
            fits = int(machine.memory_free * 0.8 / each / 1000) * 1000
            raise ConfigError(
                f"replay.capacity={config.replay.capacity}: needs {need / GIB:.1f} GiB of memory, "
                f"{machine.memory_free / GIB:.1f} GiB are free; {fits} would fit"
            )
        store = object_store_bytes(config, spec)
        if config.engine.kind == "ray" and store > machine.shared_memory_free:
            larger = f"learner.batch_size={config.learner.batch_size}"
            if rollout_bytes(config, spec) > batch_bytes(config, spec):
                larger = f"actors.count={config.actors.count}"
            raise ConfigError(
                f"{larger}: batches and rollouts on their way need {store / GIB:.1f} GiB of shared "
                f"memory, /dev/shm has {machine.shared_memory_free / GIB:.1f} GiB; lower "
                "learner.batch_size, learner.updates_per_call, actors.count or "
                "actors.envs_per_actor"
            )
    else:
        _probe(config.engine.address)
    free = disk_free(Path(config.run_dir))
    if free < DISK_NEEDED:
        raise ConfigError(
            f"run_dir={config.run_dir}: {free / GIB:.2f} GiB free on that disk, a run needs {DISK_NEEDED / GIB:.1f} GiB"
        )


def _check_observations(config: RunConfig, spec: EnvSpec) -> None:
    """Refuses parts of the agent that cannot look at what the environment shows."""
    agent, torso = config.agent, config.agent.network.torso
    needs_images = {
        "agent.network.torso.kind": torso.kind if torso.kind in CONVOLUTIONAL else None,
        "agent.auxiliary.kind": agent.auxiliary.kind if agent.auxiliary.kind == "autoencoder" else None,
        "learner.augment.kind": config.learner.augment.kind if config.learner.augment.kind != "none" else None,
    }
    for key, value in needs_images.items():
        if value is not None and not spec.pixels:
            raise ConfigError(
                f"{key}={value}: needs images, but {spec.name} gives vectors of {spec.frame_shape[0]} numbers; "
                "agent=mlp learns from those"
            )
    if config.learner.augment.kind in ("intensity", "both") and spec.frame_dtype == "bool":
        raise ConfigError(
            f"learner.augment.kind={config.learner.augment.kind}: bool images as {spec.name} gives have no intensity; "
            "use shift"
        )
    if agent.network.contrast and len(spec.frame_shape) == 3:
        raise ConfigError(
            f"agent.network.contrast={agent.network.contrast}: is for grey images, but {spec.name} gives "
            f"{spec.channels} channels; use 0"
        )
    if torso.kind == "tabular" and spec.pixels:
        raise ConfigError(
            f"agent.network.torso.kind=tabular: needs one-hot vectors, but {spec.name} gives images; "
            "use dqn_2015, dqn_2013 or mlp"
        )
    if torso.pretrained and not Path(torso.pretrained).is_file():
        raise ConfigError(
            f"agent.network.torso.pretrained={torso.pretrained}: no such file; `distdqn pretrain` writes one"
        )


def _check_imports(config: RunConfig, spec: EnvSpec) -> None:
    """Makes parts of one's own once, where they take no memory, so that what is wrong with them shows now."""
    agent = config.agent
    network = agent.network
    parts = (network.torso, network.memory, network.head, agent.bootstrap, agent.exploration, agent.auxiliary)
    own = [part for part in parts if isinstance(part.kind, Import)]
    for part in own:
        Import(part.kind).load(f"{part.key}.kind")
    if not own:
        return
    import torch  # late, since it takes seconds

    from distdqn.act.exploration import make_exploration
    from distdqn.learn.auxiliary import AUXILIARIES
    from distdqn.learn.bellman import BOOTSTRAPS
    from distdqn.nets.qnetwork import QNetwork

    with torch.device("meta"):
        made = QNetwork(network, spec, agent.contexts)
        build(agent.bootstrap, BOOTSTRAPS)
        make_exploration(agent.exploration, np.arange(1), 1, np.random.default_rng(0))
        if agent.auxiliary.kind != "none":
            build(agent.auxiliary, AUXILIARIES, made, spec)


def _probe(address: str) -> None:
    """Ray itself tries for minutes where nobody listens."""
    host, colon, port = address.rpartition(":")
    if not colon:
        if address != "auto":
            raise ConfigError(f"engine.address={address}: must be auto or HOST:PORT")
        return
    try:
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"engine.address={address}: nobody answers there ({error})") from None


def check_resume(config: RunConfig, spec: EnvSpec) -> None:
    """Refuses to go on from a checkpoint that another network or optimizer left.

    Raises:
        ConfigError: one line that names the key; also where no checkpoint can be read.
    """
    from distdqn.learn.learner import Learner

    checkpoints = Path(config.run_dir) / "checkpoints"
    found = checkpoint.newest_valid(checkpoints)
    if found is None:
        raise ConfigError(f"{checkpoints}: no checkpoint there can be read, so there is nothing to resume")
    path, state, _ = found
    settings = replace(config.learner, device="cpu", compile="off", precision="float32", threads=1)
    try:
        Learner(config.agent, settings, spec, 0).restore(state["learner"])
    except (KeyError, TypeError, ValueError) as error:
        key = "learner.optimizer" if "optimizer" in str(error) else "agent.network"
        raise ConfigError(
            f"{key}: {path.name} does not fit {checkpoints.parent / 'config.yaml'} ({' '.join(str(error).split())})"
        ) from None
