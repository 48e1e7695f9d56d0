"""In lockstep both engines, and two runs of one seed, give the same bits; another seed does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from distdqn import checkpoint
from distdqn.cli import main

ONE_ORDER = (
    "engine.lockstep=true",
    "actors.count=2",
    "replay.shards=2",
    "screen=off",
    "tensorboard=false",
    "evaluation.final_episodes=0",
    "evaluation.every_seconds=null",
)
CARTPOLE = ("experiment=cartpole", "budget.updates=120")
PONG = (
    "experiment=pong",
    "learner.device=cpu",
    "budget.updates=16",
    "replay.min_size=600",
    "replay.capacity=20000",
    "actors.envs_per_actor=2",
    "learner.compile=off",
)
# every source of random numbers at once: quantile fractions, noisy layers, dropout, augmentation
DISTRIBUTIONAL = (
    "experiment=catch",
    "agent.network.head.kind=implicit_quantile",
    "agent.bootstrap.kind=munchausen",
    "agent.network.head.online_quantiles=8",
    "agent.network.head.target_quantiles=8",
    "agent.network.head.dropout=0.1",
    "agent.network.head.noisy=true",
    "agent.exploration.kind=greedy",
    "learner.augment.kind=both",
    "budget.updates=40",
    "learner.target.period=10",
)
RECURRENT = (
    "experiment=cartpole",
    "env.hide=[1,3]",
    "agent.network.memory.kind=lstm",
    "agent.network.memory.size=16",
    "agent.network.previous=true",
    "agent.sequence.length=8",
    "agent.sequence.burn_in=4",
    "agent.sequence.overlap=4",
    "budget.updates=40",
    "learner.target.period=10",
)
CASES = {"cartpole": CARTPOLE, "pong": PONG, "distributional": DISTRIBUTIONAL, "recurrent": RECURRENT}


def weights(folder: Path, *overrides: str) -> tuple[int, dict[str, np.ndarray]]:
    """Updates done and the weights after them."""
    assert main(["train", *ONE_ORDER, *overrides, f"run_dir={folder}"]) == 0
    found = checkpoint.newest_valid(folder / "checkpoints")
    assert found is not None
    learner = found[1]["learner"]
    return learner["updates"], {f"{net}/{k}": v for net in ("online", "target") for k, v in learner[net].items()}


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", CASES.values(), ids=CASES.keys())
def test_engines_agree_bit_for_bit(tmp_path: Path, experiment: tuple[str, ...]) -> None:
    updates, local = weights(tmp_path / "local", *experiment, "engine=local")
    assert f"budget.updates={updates}" in experiment
    _, again = weights(tmp_path / "again", *experiment, "engine=local")
    _, distributed = weights(tmp_path / "ray", *experiment, "engine=ray")
    _, other = weights(tmp_path / "other", *experiment, "engine=local", "seed=2")
    assert same(local, again)
    assert same(local, distributed)
    assert not same(local, other)
