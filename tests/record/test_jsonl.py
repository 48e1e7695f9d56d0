from __future__ import annotations

import io
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn.config import RunConfig, TrackConfig
from distdqn.record.jsonl import JsonLines, read
from distdqn.record.recorder import Recorder
from distdqn.report.plot import read_curve
from distdqn.run_folder import RunFolder


def test_records_come_back_in_order(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    record: dict[str, Any] = {"a": 1, "b": np.float32(0.5)}
    lines.write(record)
    lines.write({"a": 2, "b": math.nan})
    assert list(read(tmp_path / "m.jsonl")) == [{"a": 1, "b": 0.5}, {"a": 2}]  # readable before it is closed
    lines.close()
    lines.close()
    assert (tmp_path / "m.jsonl").read_text() == '{"a":1,"b":0.5}\n{"a":2,"b":null}\n'


@pytest.mark.parametrize(
    ("torn", "kept"),
    [
        ('{"a":1}\n{"a":2', [1, 3]),
        ('{"a":1}\n{"a":2}', [1, 2, 3]),
        ('{"a":1', [3]),
        ("", [3]),
        ('{"a":1}\n' + '{"b":' + "1" * 200_000, [1, 3]),
        ('{"a":1}\n' + '{"a":2,"b":' + "1" * 200 + " " * 200_000 + "}", [1, 2, 3]),
        ('{"a":1}\n\x00\x00\x00', [1, 3]),
    ],
)
def test_a_torn_last_line_is_repaired(tmp_path: Path, torn: str, kept: list[int]) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(torn)
    lines = JsonLines(path)
    lines.write({"a": 3})
    lines.close()
    assert [r["a"] for r in read(path)] == kept
    assert path.read_text().count("\n") == len(kept)


def test_no_file_has_no_records(tmp_path: Path) -> None:
    assert list(read(tmp_path / "none")) == []


def test_a_long_file_is_never_in_memory(tmp_path: Path) -> None:
    """Opening it, reading it, going on with it and drawing it take a small part of its size."""
    folder = RunFolder.create(tmp_path / "run", "name: long\n")
    filler = f'"pad":"{"x" * 5000}"'
    with open(folder.metrics, "w") as file:
        for i in range(4000):
            value = f',"eval/return_mean":{i}' if i % 100 == 0 else ""
            file.write(f'{{"time_s":{i},"env_frames":{i},"env_steps":{i},"learner_updates":{i},{filler}{value}}}\n')
        file.write('{"time_s":4')
    size = folder.metrics.stat().st_size
    config = RunConfig(screen="off", track=TrackConfig(mode="disabled"), tensorboard=False)
    Recorder(folder, config, out=io.StringIO()).close()  # what it imports takes more
    with open(folder.metrics, "a") as file:
        file.write('{"time_s":5')
    tracemalloc.start()
    try:
        recorder = Recorder(folder, config, out=io.StringIO())
        curve = read_curve(folder.path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    recorder.close()
    folder.close()
    assert (recorder.last["time_s"], recorder.last["eval/return_mean"]) == (3999, 3900)
    assert len(curve.evaluation[0]) == 40 and size > 20_000_000 > 10 * peak, (size, peak)
