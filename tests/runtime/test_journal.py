"""Whatever a shard or a run was given outlives it: the same bits with a shard killed, and a resume with its replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn.cli import main
from distdqn.replay.stream import transitions
from distdqn.runtime import run as module
from distdqn.runtime.engine import ComponentLost, Handle, Ref
from distdqn.runtime.local import LocalEngine
from tests.runtime.test_lockstep import ONE_ORDER, same, weights

SMALL = (
    "experiment=catch",
    "engine=local",
    "replay.min_size=300",
    "replay.capacity=1500",
    "replay.shards=2",
    "learner.batch_size=16",
    "learner.updates_per_call=1",
    "learner.samples_per_insert=2",
    "actors.rollout_steps=8",
    "actors.envs_per_actor=2",
    "screen=off",
    "tensorboard=false",
    "evaluation.final_episodes=0",
    "evaluation.every_seconds=null",
)


class Killing(LocalEngine):
    """A shard dies over the n-th call of a method, once it has done it or before."""

    def __init__(self, method: str, number: int, done: bool) -> None:
        super().__init__()
        self.method, self.left, self.done = method, number, done

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        self.left -= method == self.method
        if self.left or method != self.method:
            return super().call(handle, method, *args, returns=returns)
        self.left = -1
        victim = handle if handle.name.startswith("shard") else self._components["shard-0"][0]
        if victim == handle and not self.done:
            self.kill(victim)
        refs = super().call(handle, method, *args, returns=returns)
        self.kill(victim)
        if victim == handle:
            for ref in refs:
                ref.error = ComponentLost("killed")
        return refs


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Weights of a run in lockstep."""
    return weights(tmp_path_factory.mktemp("run") / "run", *SMALL, *ONE_ORDER, "budget.updates=30")[1]


@pytest.mark.parametrize("method", ["packed_rollout", "add", "sample", "update", "update_priorities"])
@pytest.mark.parametrize(("number", "done"), [(2, True), (11, False), (14, True)])
def test_a_killed_shard_changes_no_bit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: dict[str, np.ndarray],
    method: str,
    number: int,
    done: bool,
) -> None:
    engine = Killing(method, number, done)
    monkeypatch.setattr(module, "make_engine", lambda *_: engine)
    updates, disturbed = weights(tmp_path / "run", *SMALL, *ONE_ORDER, "budget.updates=30")
    assert engine.left < 0, "nobody was killed"
    assert updates == 30 and same(disturbed, undisturbed)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["faults/shard_restarts"] == 1
    assert summary["faults/lost_transitions"] == summary["transitions"]["dropped"] == 0


def test_without_a_journal_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, np.ndarray]
) -> None:
    monkeypatch.setattr(module, "make_engine", lambda *_: Killing("sample", 14, True))
    _, disturbed = weights(tmp_path / "run", *SMALL, *ONE_ORDER, "budget.updates=30", "replay.journal=false")
    assert not same(disturbed, undisturbed)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["faults/lost_transitions"] > 0
    assert not (tmp_path / "run" / "replay").exists()


def test_packing_changes_no_bit(tmp_path: Path, undisturbed: dict[str, np.ndarray]) -> None:
    _, plain = weights(tmp_path / "run", *SMALL, *ONE_ORDER, "budget.updates=30", "replay.pack=false")
    assert same(plain, undisturbed)


@pytest.mark.parametrize("shards", [2, 1, 3])
def test_a_resumed_run_has_its_replay_again(tmp_path: Path, shards: int, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", *SMALL, "screen=lines", "budget.env_frames=1800", f"run_dir={run}"]) == 0
    before = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    stored = sum(len(b) for b in transitions(run / "replay"))
    assert stored >= before["replay/transitions"] > 1000
    capsys.readouterr()
    more = ["budget.env_frames=2300", f"replay.shards={shards}", "replay.min_size=700"]
    assert main(["resume", str(run), *more]) == 0
    said = capsys.readouterr().out
    assert [f"shard-{i} goes on with" in said for i in range(shards)] == [True] * shards
    after = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert after["learner_updates"] > before["learner_updates"] + 10, "500 frames would not fill it"
    assert after["replay/transitions"] > 1000
    assert after["faults/lost_transitions"] == after["replay/dropped"] == 0


def test_a_replay_that_does_not_fit_is_left_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(["train", *SMALL, "screen=lines", "budget.env_frames=800", f"run_dir={run}"]) == 0
    capsys.readouterr()
    assert main(["resume", str(run), "budget.env_frames=1000", "actors.rollout_steps=24"]) == 0
    assert "the replay starts empty" in capsys.readouterr().out


def test_what_is_read_are_the_windows_that_were_played(tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = [*SMALL, "budget.env_frames=1000", "agent.n_step=2", "actors.count=1", "actors.envs_per_actor=1"]
    assert main(["train", *small, "replay.capacity=100000", f"run_dir={run}"]) == 0
    seen, returns = set(), 0.0
    for batch in transitions(run / "replay"):
        assert batch.frames.shape[1] == 3 and batch.action.shape[1] == 2
        steps = (batch.origin[:, 3] + batch.origin[:, 5]).tolist()
        assert seen.isdisjoint(steps)
        seen |= set(steps)
        returns += float(batch.reward[:, 0].sum())
    summary = json.loads((run / "summary.json").read_text())
    assert len(seen) == summary["replay/stored"]
    assert abs(returns) <= summary["actor/episodes"] + 1, "a game of Catch ends with 1 or -1"
