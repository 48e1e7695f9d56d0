from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distdqn.record.jsonl import JsonLines, read


def test_records_come_back_in_order(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "m.jsonl")
    record: dict[str, Any] = {"a": 1, "b": np.float32(0.5)}
    lines.write(record)
    lines.write({"a": 2, "b": math.nan})
    assert read(tmp_path / "m.jsonl") == [{"a": 1, "b": 0.5}, {"a": 2}]  # readable before it is closed
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
    assert read(tmp_path / "none") == []
