"""A run in small, in this process, for parts of one's own: what is wrong with them shows here, in one line."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from distdqn.config import ConfigError, Import, RunConfig
from distdqn.config.section import one_line
from distdqn.types import EnvSpec

SLOTS = 2
ROLLOUTS = 8
"""After so many a window of the longest sequence is whole."""


def rehearse(config: RunConfig, spec: EnvSpec) -> None:
    """Acts, stores and learns once with two slots, on the CPU, where any part comes from outside the package.

    Raises:
        ConfigError: one line that names the key of the part in whose code it ended, what it said, and where.
    """
    agent = config.agent
    network = agent.network
    parts: tuple[Any, ...] = (
        config.env,
        network.torso,
        network.memory,
        network.head,
        agent.bootstrap,
        agent.exploration,
        agent.auxiliary,
    )
    imported = [part for part in parts if isinstance(part.kind, Import)]
    own = {part.key: (part, part.kind.load(f"{part.key}.kind")) for part in imported}
    if own:
        with _named(own):
            _play(config, spec)


@contextmanager
def _named(own: dict[str, tuple[Any, Any]]) -> Iterator[None]:
    """Any error becomes one line that names the part whose code it came from, all of them where that is unknown."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        selves = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
        by_class = [(part, made) for part, made in own.values() if isinstance(made, type)]
        found = [part for s in reversed(selves) for part, made in by_class if isinstance(s, made)]
        named = found[:1] or [part for part, _ in own.values()]
        frame = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        shown = ", ".join(part.shown("kind") for part in named)
        raise ConfigError(f"{shown}: cannot be used ({said}, {where})") from error


def _play(config: RunConfig, spec: EnvSpec) -> None:
    import torch  # late, since it takes seconds

    from distdqn.act.actor import Actor
    from distdqn.learn.learner import Learner
    from distdqn.replay.shard import ReplayShard

    agent, steps = config.agent, config.actors.rollout_steps
    threads = torch.get_num_threads()
    actor = Actor(config.env, agent, replace(config.actors, count=1, envs_per_actor=SLOTS, threads=1), 0, config.seed)
    try:
        settings = replace(config.learner, device="cpu", threads=1, compile="off", precision="float32")
        learner = Learner(agent, settings, spec, config.seed)
        _check_network(learner.online, config, spec)
        _check_acting(actor, config, spec)
        shard = ReplayShard(config.replay, ROLLOUTS * SLOTS * steps, steps, 0, config.seed, agent.sequence.stride)
        for _ in range(ROLLOUTS):
            if shard.add(actor.rollout(learner.weights())[0]).transitions:
                break
        *_, stats = learner.update(0.0, shard.sample((2,), 0.5)[0])
        if stats.skipped:
            raise ValueError("the loss of an update is not finite")
        actor.rollout(learner.weights())
    finally:
        actor.close()
        torch.set_num_threads(threads)


def _expect(part: Any, what: str, array: Any, shape: tuple[int, ...], *dtypes: str) -> None:
    """Refuses `array` of another shape or dtype, in the name of the `part` that gave it."""
    dtype = str(array.dtype).removeprefix("torch.")
    if tuple(array.shape) != shape or dtype not in dtypes:
        wanted = f"{' or '.join(dtypes)} {list(shape)}"
        raise ConfigError(f"{part.shown('kind')}: {what} must be {wanted}, it gives {dtype} {list(array.shape)}")


def _check_network(network: Any, config: RunConfig, spec: EnvSpec) -> None:
    """Whether each part of the network is as wide as it says."""
    import torch

    parts, (torso, memory, head) = config.agent.network, (network.torso, network.memory, network.head)
    floats = ("float32", "bfloat16")
    with torch.no_grad():
        seen = network.scaled(torch.zeros(SLOTS, *spec.observation_shape, dtype=getattr(torch, spec.frame_dtype)))
        _expect(parts.torso, "features", torso(seen), (SLOTS, torso.features), *floats)
        if network.state_size:
            inputs = torch.zeros(SLOTS, network.inputs)
            features, state = memory(inputs, torch.zeros(SLOTS, memory.size))
            _expect(parts.memory, "features", features, (SLOTS, memory.features), *floats)
            _expect(parts.memory, "state", state, (SLOTS, memory.size), "float32")
        values = head(torch.zeros(SLOTS, memory.features), None)
    _expect(parts.head, "q", values.q, (SLOTS, spec.num_actions), "float32")


def _check_acting(actor: Any, config: RunConfig, spec: EnvSpec) -> None:
    """Whether actions and steps are what everything else takes them for."""
    scheme = config.agent.exploration
    actions = actor.exploration.actions(np.zeros((SLOTS, spec.num_actions), np.float32), 0)
    _expect(scheme, "actions", actions, (SLOTS,), "int64", "int32")
    if not ((actions >= 0) & (actions < spec.num_actions)).all():
        raise ConfigError(f"{scheme.shown('kind')}: actions must be from 0 to {spec.num_actions - 1}: {actions}")
    _expect(scheme, "epsilons", actor.exploration.epsilons(0), (SLOTS,), "float64", "float32")
    step = actor.env.step(np.zeros(SLOTS, np.int64))
    _expect(config.env, "frames", step.frame, (SLOTS, *spec.frame_shape), spec.frame_dtype)
    if spec.pixels:
        _expect(config.env, "images", step.frame, step.frame.shape, "uint8", "bool")
    _expect(config.env, "rewards", step.reward, (SLOTS,), "float32", "float64")
    _expect(config.env, "terminated", step.terminated, (SLOTS,), "bool")
    _expect(config.env, "last", step.last, (SLOTS,), "bool")
