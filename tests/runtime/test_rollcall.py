"""Machines of a cluster that differ are named before anything starts; real ones are in tests/cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distdqn.config import ConfigError, EngineConfig, ReplayConfig, RunConfig
from distdqn.runtime.engine import ComponentLost, Handle, Ref, Room
from distdqn.runtime.local import LocalEngine, _Result
from distdqn.runtime.preflight import bytes_per_transition
from distdqn.runtime.rollcall import Report, Software, Witness, call_roll
from distdqn.types import EnvSpec

SPEC = EnvSpec("poles", (4,), "float32", 1, 2)


class Cluster(LocalEngine):
    """Machines far, 0 and so on, which say what this one says with these differences, or nothing at all."""

    def __init__(self, *differences: dict[str, Any] | Exception) -> None:
        super().__init__()
        self.differences, self.killed, self.paths = differences, list[str](), list[str]()

    def rooms(self) -> dict[str, Room]:
        others = {str(i): Room(f"far{i}", 1, 0) for i in range(len(self.differences))}
        return {"": Room("here", 1, 0), **others, "leaving": Room("leaving", 1, 0, leaving=True)}  # is not asked

    def call(self, handle: Handle, method: str, *args: Any, returns: int = 1) -> tuple[Ref, ...]:
        assert method == "report"
        self.paths = list(args)
        differs = self.differences[int(handle.name.partition("-")[2])]
        if isinstance(differs, Exception):
            return (_Result(error=differs),)
        report = Witness().report(*args)
        software = replace(report.software, **{k: v for k, v in differs.items() if k in vars(report.software)})
        rest = {k: v for k, v in differs.items() if k not in vars(report.software)}
        return (_Result(replace(report, host=f"far{handle.name[-1]}", software=software, **rest)),)

    def kill(self, handle: Handle) -> None:
        self.killed.append(handle.name)


def config(tmp_path: Path, **replay: Any) -> RunConfig:
    settings = ReplayConfig(**{"capacity": 1000, "min_size": 100, **replay})
    return RunConfig(engine=EngineConfig(address="auto"), replay=settings, run_dir=str(tmp_path / "runs" / "new"))


def said(tmp_path: Path, differences: Sequence[dict[str, Any] | Exception], **replay: Any) -> str:
    engine = Cluster(*differences)
    with pytest.raises(ConfigError) as caught:
        call_roll(engine, config(tmp_path, **replay), SPEC)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
    assert engine.killed == [f"witness-{i}" for i in range(len(differences))]
    return str(caught.value)


def test_machines_that_are_alike_may_join(tmp_path: Path) -> None:
    engine = Cluster({}, {"memory_free": 0, "gpu": True})
    reports = call_roll(engine, config(tmp_path), SPEC)
    assert {n: r.host for n, r in reports.items() if n} == {"0": "far0", "1": "far1"} and next(iter(reports)) == ""
    assert all(r.sees and r.writes for r in reports.values())
    assert reports[""].software == Witness().report("", "").software
    assert engine.killed == ["witness-0", "witness-1"]
    assert Path(engine.paths[0]).parent == tmp_path and not list(tmp_path.iterdir())


def test_other_software_is_one_line_that_names_the_machine(tmp_path: Path) -> None:
    mine = Witness().report("", "").software
    for name, value in (("Ray", "2.50.0"), ("Python", "3.8"), ("PyTorch", "1.0"), ("distdqn", "0.1.0 (00000000)")):
        line = said(tmp_path, [{}, {name: value}])
        assert line.startswith(f"engine.address=auto: far1 has {name} {value}, ")
        assert line.endswith(f"has {getattr(mine, name)}")
    assert isinstance(mine, Software) and "+" not in mine.PyTorch


def test_who_cannot_answer_is_named(tmp_path: Path) -> None:
    line = said(tmp_path, [ComponentLost("ModuleNotFoundError: No module named 'distdqn'"), {}])
    assert line.startswith("engine.address=auto: distdqn cannot run on far0 (ModuleNotFoundError")


def test_journals_need_a_folder_on_every_machine(tmp_path: Path) -> None:
    line = said(tmp_path, [{"sees": False}])
    assert (
        line.startswith(f"run_dir={tmp_path}/runs/new: far0 does not see that folder") and "replay.journal_dir" in line
    )
    assert "far0 cannot write there" in said(tmp_path, [{"writes": False}])
    assert said(tmp_path, [{"writes": False}], journal_dir="/scratch").startswith("replay.journal_dir=/scratch: far0")
    engine = Cluster({"sees": False})
    with pytest.raises(ConfigError):
        call_roll(engine, config(tmp_path), SPEC)
    alone = Cluster({})
    call_roll(alone, config(tmp_path, journal=False), SPEC)
    assert alone.paths == ["", ""]  # nothing is looked for
    call_roll(alone, config(tmp_path, journal_dir=str(tmp_path)), SPEC)
    assert alone.paths == ["", str(tmp_path)]  # a scratch disk need not be shared


def test_a_folder_that_is_not_there_or_cannot_be_written_is_seen(tmp_path: Path) -> None:
    report = Witness().report(str(tmp_path / "mark"), "/proc/nothing")
    assert isinstance(report, Report) and not report.sees and not report.writes
    (tmp_path / "mark").touch()
    report = Witness().report(str(tmp_path / "mark"), str(tmp_path / "not" / "there" / "yet"))
    assert report.sees and report.writes and [p.name for p in tmp_path.iterdir()] == ["mark"]


def test_replay_must_fit_into_the_memory_of_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    each = bytes_per_transition(config(tmp_path), SPEC)
    capacity = 1 << 30
    monkeypatch.setattr("distdqn.runtime.rollcall.bytes_per_transition", lambda *_: each)
    free = int(each * capacity)
    line = said(tmp_path, [{"memory_free": 0}] * 2, capacity=1 << 50)
    assert line.startswith(f"replay.capacity={1 << 50}: needs ") and "on 3 machines" in line
    monkeypatch.setattr("distdqn.runtime.rollcall.inspect", lambda: type("M", (), {"memory_free": free}))
    line = said(tmp_path, [{}, {}], capacity=capacity, shards=1)
    assert line.startswith("replay.shards=1: each takes") and line.endswith("2 would fit")
    assert len(call_roll(Cluster({}, {}), config(tmp_path, capacity=capacity, shards=2), SPEC)) == 3
