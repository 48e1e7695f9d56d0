"""What must be true before anything heavy starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from distdqn import checkpoint
from distdqn.act.segmenter import agent_fields
from distdqn.config import ConfigError, RunConfig
from distdqn.config.network import CONVOLUTIONAL
from distdqn.machine import Machine, cuda_devices, disk_free, inspect
from distdqn.record.prometheus import refuse_taken
from distdqn.runtime.joining import refuse_unsafe
from distdqn.runtime.rehearsal import rehearse
from distdqn.types import STEP_FIELDS, EnvSpec

GIB = 1024**3
DISK_NEEDED = GIB // 2
"""Checkpoints of the largest of our networks, videos and metrics of a long run."""
MOST_VERSIONS = 16
"""Of the weights that are in use at once: so many are published while the slowest rollout is played."""


def bytes_per_transition(config: RunConfig, spec: EnvSpec) -> float:
    """Replay memory that one transition takes, its priority included."""
    steps, window = config.actors.rollout_steps, config.agent.window
    frames = (spec.stack - 1 + steps + window) * spec.frame_bytes
    per_step = sum(f.nbytes for f in (*STEP_FIELDS, *agent_fields(config.agent))) * (steps + window)
    leaves = 1 << (config.replay.capacity // config.replay.shards - 1).bit_length()
    tree = 2 * leaves * 8 * config.replay.shards / config.replay.capacity
    memory = 4 * state_size(config, spec) / config.agent.sequence.stride
    return (frames + per_step + steps) / steps + tree + memory


def state_size(config: RunConfig, spec: EnvSpec) -> int:
    """M, the numbers of a slot's recurrent state: asked of the network itself."""
    if not config.agent.network.recurrent and config.agent.contexts == 1:
        return 0
    return int(_network(config, spec).state_size)


def weights_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of the network's weights, float32."""
    return 4 * sum(parameter.numel() for parameter in _network(config, spec).parameters())


def _network(config: RunConfig, spec: EnvSpec) -> Any:
    """The Q-network, of tensors that take no memory."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # late, since it takes seconds; autocast knows no "meta"

    from distdqn.nets.qnetwork import QNetwork

    with FakeTensorMode():
        return QNetwork(config.agent.network, spec, config.agent.contexts)


def batch_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of what one call of the learner is fed."""
    windows = config.learner.batch_size * config.learner.updates_per_call
    return windows * (spec.stack + config.agent.window) * spec.frame_bytes


def rollout_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Size of one rollout of all actors together."""
    return config.slots * (config.actors.rollout_steps + config.agent.window + spec.stack) * spec.frame_bytes


def object_store_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """Shared memory for everything that can be on its way at once, six times over: Ray frees what nobody holds any
    more with a delay, and starts to write objects to disk when the store is four fifths full. Weights are there once
    for each version by which some actor still plays."""
    rollouts = (config.actors.in_flight + 1) * rollout_bytes(config, spec)
    versions = 1 + min(MOST_VERSIONS, config.actors.places * config.actors.in_flight)
    all_of_it = drawn_bytes(config, spec) + 6 * rollouts + 2 * versions * weights_bytes(config, spec)
    return max(256 * 1024**2, all_of_it)


def drawn_bytes(config: RunConfig, spec: EnvSpec) -> int:
    """That part of it which the learner's machine has to hold: minibatches."""
    return 6 * (config.learner.in_flight + 2) * batch_bytes(config, spec)


def check(config: RunConfig, spec: EnvSpec, machine: Machine | None = None) -> None:
    """Refuses a run that this machine cannot hold.

    Raises:
        ConfigError: one line that names the key and what would fit.
    """
    machine, device = machine or inspect(), config.learner.device
    if config.engine.kind == "ray" and device.startswith("cuda:") and device != "cuda:0":
        why = "Ray gives the learner one GPU, which it knows as cuda; CUDA_VISIBLE_DEVICES says which of this machine"
        raise refusal("learner.device", device, why)
    _check_observations(config, spec)
    if config.engine.address is not None:
        if config.engine.address != "auto":
            refuse_unsafe(config.engine.address, config.engine.unauthenticated)
    else:
        if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= machine.gpus:
            why = f"no such CUDA device here, there are {machine.gpus}; use cpu or auto"
            raise refusal("learner.device", device, why)
        if device.startswith("cuda") and not pytorch_uses_gpu():
            raise refusal("learner.device", device, "this PyTorch cannot use the GPU that is here (`distdqn doctor`)")
        _check_memory(config, spec, machine)
    if config.metrics_port is not None:
        try:
            refuse_taken(config.metrics_host, config.metrics_port)
        except OSError as error:
            why = f"cannot be listened on at metrics_host={config.metrics_host} ({error.strerror or error})"
            raise refusal("metrics_port", config.metrics_port, f"{why}; 0 takes any that is free") from None
    if (free := disk_free(Path(config.run_dir))) < DISK_NEEDED:
        why = f"{free / GIB:.2f} GiB free on that disk, a run needs {DISK_NEEDED / GIB:.1f} GiB"
        raise refusal("run_dir", config.run_dir, why)
    rehearse(config, spec)


def pytorch_uses_gpu() -> bool:
    """Whether there is a GPU here that this PyTorch computes on."""
    if not cuda_devices():
        return False
    import torch  # late, since it takes seconds

    return torch.cuda.is_available()


def refusal(key: str, value: object, why: str) -> ConfigError:
    """The error for `key`, which is `value`."""
    return ConfigError(f"{key}={value}: {why}")


def _check_memory(config: RunConfig, spec: EnvSpec, machine: Machine) -> None:
    each, free = bytes_per_transition(config, spec), machine.memory_free
    need = each * config.replay.capacity
    if need > free * 0.9:
        fits = int(free * 0.8 / each / 1000) * 1000
        why = f"needs {need / GIB:.1f} GiB of memory, {free / GIB:.1f} GiB are free; {fits} would fit"
        raise refusal("replay.capacity", config.replay.capacity, why)
    store, free = object_store_bytes(config, spec), machine.shared_memory_free
    if config.engine.kind == "ray" and store > free:
        why = (
            f"batches and rollouts on their way need {store / GIB:.1f} GiB of shared memory, /dev/shm has "
            f"{free / GIB:.1f} GiB; lower learner.batch_size, learner.updates_per_call, actors.count or "
            "actors.envs_per_actor"
        )
        if rollout_bytes(config, spec) > batch_bytes(config, spec):
            raise refusal("actors.count", config.actors.places, why)
        raise refusal("learner.batch_size", config.learner.batch_size, why)


def _check_observations(config: RunConfig, spec: EnvSpec) -> None:
    """Refuses parts of the agent that cannot look at what the environment shows."""
    agent, torso, augment = config.agent, config.agent.network.torso, config.learner.augment.kind
    needs_images: dict[str, str] = {
        "agent.network.torso.kind": torso.kind if torso.kind in CONVOLUTIONAL else "none",
        "agent.auxiliary.kind": agent.auxiliary.kind if agent.auxiliary.kind == "autoencoder" else "none",
        "learner.augment.kind": augment,
    }
    for key, value in needs_images.items():
        if value != "none" and not spec.pixels:
            why = f"needs images, but {spec.name} gives vectors of {spec.frame_shape[0]} numbers"
            raise refusal(key, value, f"{why}; agent=mlp learns from those")
    if augment in ("intensity", "both") and spec.frame_dtype == "bool":
        why = f"bool images as {spec.name} gives have no intensity; use shift"
        raise refusal("learner.augment.kind", augment, why)
    if agent.network.contrast and len(spec.frame_shape) == 3:
        why = f"is for grey images, but {spec.name} gives {spec.channels} channels; use 0"
        raise refusal("agent.network.contrast", agent.network.contrast, why)
    if torso.kind == "tabular" and spec.pixels:
        why = f"needs one-hot vectors, but {spec.name} gives images; use dqn_2015, dqn_2013 or mlp"
        raise refusal("agent.network.torso.kind", torso.kind, why)
    if torso.pretrained and not Path(torso.pretrained).is_file():
        why = "no such file; `distdqn pretrain` writes one"
        raise refusal("agent.network.torso.pretrained", torso.pretrained, why)


def check_resume(config: RunConfig, spec: EnvSpec) -> None:
    """Refuses to go on from a checkpoint that another network or optimizer left.

    Raises:
        ConfigError: one line that names the key; also where no checkpoint can be read.
    """
    from distdqn.learn.learner import Learner

    checkpoints = Path(config.run_dir) / "checkpoints"
    checkpoint.recover(checkpoints)
    found = checkpoint.newest_valid(checkpoints)
    if found is None and checkpoint.names(checkpoints):
        raise ConfigError(f"{checkpoints}: no checkpoint there can be read, so there is nothing to resume")
    if found is None:
        return  # it was stopped before the first one: it starts from the beginning
    path, state, _ = found
    settings = replace(config.learner, device="cpu", compile="off", precision="float32", threads=1)
    try:
        Learner(config.agent, settings, spec, 0).restore(state["learner"])
    except (KeyError, TypeError, ValueError) as error:
        key = "learner.optimizer" if "optimizer" in str(error) else "agent.network"
        misfit = f"{path.name} does not fit {checkpoints.parent / 'config.yaml'}"
        raise ConfigError(f"{key}: {misfit} ({' '.join(str(error).split())})") from None
