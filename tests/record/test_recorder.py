from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn.config import RunConfig, TrackConfig
from distdqn.record import jsonl
from distdqn.record.recorder import Recorder
from distdqn.run_folder import RunFolder

CONFIG = RunConfig(name="catch", screen="lines", track=TrackConfig(mode="disabled"), tensorboard=False)
RECORD: dict[str, Any] = {
    "time_s": 5.0,
    "env_frames": 4000,
    "env_steps": 1000,
    "learner_updates": np.int64(3),
    "learner/loss": 0.5,
}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    with RunFolder.create(tmp_path / "run", "name: catch\n") as made:
        yield made


def test_records_reach_the_file_and_survive_resume(folder: RunFolder) -> None:
    extra = {"eval/return_mean": 2.0, "eval/best_return": 3.0, "run/fraction": 0.9, "run/frames_per_s": 800.0}
    first = Recorder(folder, CONFIG, out=io.StringIO())
    first.record(RECORD)
    first.record({**RECORD, "time_s": 10.0, **extra})
    first.close()
    with open(folder.metrics, "a") as file:
        file.write('{"time_s": 15')  # killed while writing
    out = io.StringIO()
    second = Recorder(folder, CONFIG, out=out)
    assert second.last == {**RECORD, "time_s": 10.0, **extra}
    second.record({**RECORD, "time_s": 20.0})
    second.close()
    assert [r["time_s"] for r in jsonl.read(folder.metrics)] == [5.0, 10.0, 20.0]
    assert "20 s     –" in out.getvalue() and "4.00k frames (–/s)" in out.getvalue()  # not the first session's
    assert "evaluation 2, best 3" in out.getvalue()


def test_a_record_without_its_counters_is_refused(folder: RunFolder) -> None:
    recorder = Recorder(folder, CONFIG, out=io.StringIO())
    with pytest.raises(ValueError, match="lacks env_steps, learner_updates"):
        recorder.record({"time_s": 1.0, "env_frames": 2})
    recorder.close()


def test_the_summary_is_plain_json(folder: RunFolder) -> None:
    out = io.StringIO()
    recorder = Recorder(folder, CONFIG, out=out)
    recorder.record({**RECORD, "learner/loss": float("nan")})
    recorder.summary({"outcome": "done", "evaluation": {"returns": np.array([1.0, 2.0])}})
    recorder.close()
    summary = json.loads(folder.summary.read_text())
    assert summary["name"] == "catch" and summary["learner_updates"] == 3 and summary["learner/loss"] is None
    assert summary["evaluation"] == {"returns": [1.0, 2.0]}
    for row in ("run         catch, seed 1, done", "played      4.00k frames in 5 s", f"folder      {folder.path}"):
        assert row + "\n" in out.getvalue()
    assert not [p for p in folder.path.iterdir() if p.name.endswith(".tmp")]


def test_the_end_repeats_the_advice_of_the_last_time_that_it_trained(folder: RunFolder) -> None:
    out = io.StringIO()
    recorder = Recorder(folder, CONFIG, out=out)
    recorder.record({**RECORD, "run/learner_idle": 0.5, "run/actors_idle": 0.0, "node/a/cpu": 0.5, "node/b/cpu": 0.5})
    recorder.record({**RECORD, "node/a/cpu": 1.0})  # it evaluates, and a machine has gone
    recorder.summary()
    recorder.close()
    assert "advice      the learner waits 50% of its time: about 2 more actors, or learner." in out.getvalue()
    summary = json.loads(folder.summary.read_text())
    assert summary["node/a/cpu"] == 1.0 and "node/b/cpu" not in summary


class Broken:
    def write(self, metrics: Any) -> None:
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_broken_place_is_left_out_and_the_run_goes_on(folder: RunFolder) -> None:
    out = io.StringIO()
    recorder = Recorder(folder, CONFIG, out=out)
    recorder._sinks["TensorBoard"] = Broken()
    recorder._sinks["metrics.jsonl"] = Broken()
    recorder.record(RECORD)
    recorder.record(RECORD)
    recorder.close()
    assert out.getvalue().count("TensorBoard failed and is left out: No space left on device") == 1
    assert len(list(jsonl.read(folder.metrics))) == 1  # tried again, for the second


def test_a_terminal_that_goes_away_stops_nothing(folder: RunFolder) -> None:
    out = io.StringIO()
    recorder = Recorder(folder, CONFIG, out=out)
    out.close()
    recorder.record(RECORD)
    recorder.event("still here")
    recorder.record(RECORD)
    recorder.close()
    assert len(list(jsonl.read(folder.metrics))) == 2


def test_the_tracking_id_travels_in_the_state(folder: RunFolder) -> None:
    first, second = Recorder(folder, CONFIG, out=io.StringIO()), Recorder(folder, CONFIG, out=io.StringIO())
    second.restore(first.state())
    assert second.state() == first.state() and first.state()["wandb_id"]
    second.record(RECORD)
    with pytest.raises(RuntimeError, match="before its first record"):
        second.restore(first.state())


def test_tensorboard_reads_it_back(folder: RunFolder) -> None:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    recorder = Recorder(folder, dataclasses.replace(CONFIG, tensorboard=True), out=io.StringIO())
    recorder.record(RECORD)
    recorder.close()
    (file,) = folder.tensorboard.iterdir()
    seen = {v.tag: e.step for e in EventFileLoader(str(file)).Load() for v in e.summary.value}
    assert seen == {tag: 4000 for tag in RECORD if tag != "env_frames"}
