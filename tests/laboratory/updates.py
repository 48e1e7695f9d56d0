"""How fast the learner alone learns from minibatches at hand, agent by agent: captured, and step by step.

python -m tests.laboratory.updates SECONDS NAME ... [KEY=VALUE ...]: a line of JSON for each experiment.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from distdqn.config import RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.learn.learner import Learner
from distdqn.learn.minibatch import on_cpu, split_parts
from distdqn.types import Batch, EnvSpec
from tests.learn.nowait import NoWait


def random_batch(config: RunConfig, spec: EnvSpec, memory: int, seed: int) -> Batch:
    """What one shard might draw for one call of the learner, of random content."""
    rng, sizes = np.random.default_rng(seed), (config.learner.batch_size,) * config.learner.updates_per_call
    rows, steps = sum(sizes), config.agent.window
    shape = (rows, spec.stack + steps, *spec.frame_shape)
    kept = {
        "action": rng.integers(0, spec.num_actions, (rows, steps)),
        "reward": rng.integers(-1, 2, (rows, steps)).astype(np.float32),
        "terminated": np.zeros((rows, steps), bool),
        "last": np.zeros((rows, steps), bool),
        "age": (rng.integers(0, 500, (rows, 1)) + np.arange(steps)).astype(np.int32),
        "bonus": np.zeros((rows, steps), np.float32),
    }
    frames = rng.integers(0, 256, shape, np.uint8) if spec.frame_dtype == "uint8" else rng.random(shape, np.float32)
    return Batch(
        frames=frames,
        steps=kept,
        memory=np.zeros((rows, memory), np.float32),
        importance=np.ones(rows, np.float32),
        key=np.arange(rows),
        origin=np.zeros((rows, 6), np.int64),
        sizes=sizes,
    )


def operations(keys: Sequence[str]) -> int:
    """How many kernels an update would be on a GPU that is given one operation at a time, counted on the CPU with few
    rows. Raises `AssertionError` where it would wait for the device."""
    small = ["learner.device=cpu", "learner.batch_size=4", "learner.updates_per_call=1", "learner.threads=1"]
    config = compose([*keys, *small, "learner.compile=off", "learner.capture=on"])
    spec = check_env(config.env)
    learner = Learner(config.agent, config.learner, spec, config.seed)
    batch = random_batch(config, spec, learner.online.state_size, 0)
    learner.update(0.0, batch)
    if learner.program is None:
        raise AssertionError("it needs the host in the middle of an update")
    learner.program.begin(1, config.learner.batch_size)
    with NoWait() as counted:
        learner.program(next(on_cpu(split_parts([batch]))), learner._horizon(1))
    return counted.operations


def rate(seconds: float, keys: Sequence[str]) -> dict[str, Any]:
    """Updates/s of the learner of the config that `keys` make."""
    config = compose(list(keys))
    spec = check_env(config.env)
    learner = Learner(config.agent, config.learner, spec, config.seed)
    batch = random_batch(config, spec, learner.online.state_size, 0)
    for _ in range(3):  # step by step, then captured, then as it goes on
        learner.update(0.0, batch)
    calls, begin = 0, time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        learner.update(0.0, batch)
        calls += 1
    found = {"updates/s": round(calls * config.learner.updates_per_call / passed, 1)}
    if (program := learner.program) and program.graphs:
        (graph,), count = list(program.graphs.values())[:1], 50
        program.begin(config.learner.updates_per_call, config.learner.batch_size)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(count):
            program.at.zero_()
            graph.replay()
        torch.cuda.synchronize()
        found["on the device alone"] = round(count / (time.perf_counter() - begin), 1)
    return found


def measure(seconds: float, names: Sequence[str], keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """For each experiment: its updates/s as it is and step by step, for S seconds each. One that fails says so."""
    for name in names:
        found: dict[str, Any] = {"experiment": name}
        for how, more in (("", []), ("step by step: ", ["learner.capture=off"])):
            try:
                own = rate(seconds, [f"experiment={name}", *keys, *more])
                found |= {how + key: value for key, value in own.items()}
            except Exception as error:  # the others are still worth their time
                found[how + "failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            gc.collect()
        yield found


if __name__ == "__main__":
    chosen, overrides = ([t for t in sys.argv[2:] if ("=" in t) == typed] for typed in (False, True))
    for line in measure(float(sys.argv[1]), chosen, overrides):
        print(json.dumps(line), flush=True)
