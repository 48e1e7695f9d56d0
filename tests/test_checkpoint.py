from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distdqn import checkpoint
from distdqn.checkpoint import CheckpointError

STATE = {
    "learner": {
        "weights": {"torso/conv.weight": np.arange(12, dtype=np.float32).reshape(3, 4)},
        "updates": 7,
        "step_size": 1e-4,
        "schedule": [None, True, "linear", np.array(3, np.int64)],
    },
    "flags": np.array([True, False]),
    "frames": np.arange(8, dtype=np.uint8)[::2],
    "random": {"state": 2**127 + 1},
    "empty": np.zeros((0, 3)),
}


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal bit for bit, types and dtypes too."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or (a != a and b != b))


def test_round_trip_is_bit_exact(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path / "checkpoints", "step-000000000007", STATE)
    loaded = checkpoint.load(path)
    assert same(STATE, loaded)
    loaded["flags"][0] = False  # writable
    assert sorted(p.name for p in path.iterdir()) == ["arrays.safetensors", "manifest.json", "state.json"]


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
arrays = hnp.arrays(
    st.sampled_from([np.bool_, np.uint8, np.int32, np.int64, np.float16, np.float32, np.float64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
keys = st.text("ab/~0.é", max_size=4)
states = st.dictionaries(
    keys,
    st.recursive(
        plain | arrays, lambda s: st.lists(s, max_size=3) | st.dictionaries(keys, s, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@given(state=states)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_state_round_trips(tmp_path: Path, state: dict[str, Any]) -> None:
    assert same(state, checkpoint.load(checkpoint.save(tmp_path, "step-1", state)))


@pytest.mark.parametrize(
    "value", [np.array([object()]), np.array(["text"]), {1: 2}, {"__array__": "x"}, {1, 2}, b"bytes"]
)
def test_what_cannot_be_stored_is_named_and_leaves_nothing(tmp_path: Path, value: Any) -> None:
    with pytest.raises(TypeError, match="learner/odd"):
        checkpoint.save(tmp_path, "step-1", {"learner": {"odd": value}})
    assert list(tmp_path.iterdir()) == []


def test_any_flipped_byte_is_found(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, "step-1", {"a": np.arange(3), "b": [1.5]})
    for file in path.iterdir():
        content = file.read_bytes()
        for i in range(0, len(content), 3):
            file.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
            with pytest.raises(CheckpointError, match="step-1") as error:
                checkpoint.load(path)
            assert "\n" not in str(error.value)
        file.write_bytes(content)
    checkpoint.load(path)


def test_newest_valid_skips_the_damaged_and_says_so(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, f"step-{step}", {"step": step, "a": np.arange(step)})
    arrays = tmp_path / "step-5" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-4])
    (tmp_path / "step-4" / "state.json").unlink()
    (tmp_path / "step-3" / "manifest.json").write_text("{}")
    found = checkpoint.newest_valid(tmp_path)
    assert found is not None
    path, state, damaged = found
    assert path == tmp_path / "step-2" and state["step"] == 2
    assert ["bytes instead of" in damaged[0], "state.json" in damaged[1], "manifest.json" in damaged[2]] == [True] * 3
    assert checkpoint.newest_valid(tmp_path / "nowhere") is None


def test_saving_a_name_again_replaces_it(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, "step-1", {"a": 1})
    checkpoint.save(tmp_path, "step-1", {"a": 2})
    assert checkpoint.load(tmp_path / "step-1") == {"a": 2}
    assert checkpoint.names(tmp_path) == ["step-1"] and len(list(tmp_path.iterdir())) == 1


def test_prune_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 7):
        checkpoint.save(tmp_path, f"step-{step}", {})
    leftover = tmp_path / ".tmp-0123-4567-step-9"
    leftover.mkdir()
    checkpoint.mark_best(tmp_path, "step-2", 1.5)
    assert checkpoint.best(tmp_path) == ("step-2", 1.5)
    assert checkpoint.prune(tmp_path, keep=2, spare=["step-2"]) == ["step-1", "step-3", "step-4"]
    assert checkpoint.names(tmp_path) == ["step-2", "step-5", "step-6"] and not leftover.exists()
    shutil.rmtree(tmp_path / "step-2")
    assert checkpoint.best(tmp_path) is None


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="not written"):
        checkpoint.save(tmp_path / "file", "step-1", {})


def save_on(folder: Path, first: int, again: bool) -> Iterator[int]:
    """Saves as a run does, under names that grow or one name again and again, and says what it has saved."""
    for step in range(first, first + 10**6):
        name = "step-000000000001" if again else f"step-{step:012}"
        checkpoint.save(folder, name, {"step": step, "a": np.full(20_000, step)})
        checkpoint.prune(folder, keep=2)
        yield step


def killed(folder: Path, first: int, again: bool, saves: float) -> int:
    """Kills a writer some time past its first save; gives the last step that it said to have saved.

    ``saves`` is that time by what the first save took, which a busy machine stretches as it does the others.
    """
    read, write = os.pipe()
    start = time.monotonic()
    writer = os.fork()
    if not writer:
        checkpoint._OWN = f"{os.getpid():08x}"  # as a process has that was not forked
        for step in save_on(folder, first, again):
            os.write(write, struct.pack("<Q", step))
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read(8)
        time.sleep(saves * (time.monotonic() - start))
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        said += pipe.read()
    return int(struct.unpack("<Q", said[-8:])[0])


@pytest.mark.parametrize("again", [False, True])
def test_a_hundred_killed_writers_lose_nothing(tmp_path: Path, again: bool) -> None:
    rng, done = np.random.default_rng(0), 0
    for _ in range(50):
        done = killed(tmp_path, done + 1, again, float(rng.uniform(0, 3)))
        checkpoint.recover(tmp_path)
        found = checkpoint.newest_valid(tmp_path)
        assert found is not None
        _, state, damaged = found
        assert damaged == [] and state["step"] in (done, done + 1) and (state["a"] == state["step"]).all()
        checkpoint.prune(tmp_path, keep=1)
        assert len(list(tmp_path.iterdir())) == 1, "what was left half-written is gone"
        done = state["step"]
    assert done > 60


def test_what_was_put_aside_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, "step-1", {"a": 1})
    rename, moves = os.rename, []

    def killed_in_between(old: Path, new: Path) -> None:
        moves.append(new)
        if len(moves) == 2:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(checkpoint.os, "rename", killed_in_between)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, "step-1", {"a": 2})
    monkeypatch.setattr(checkpoint.os, "rename", rename)
    assert checkpoint.newest_valid(tmp_path) is None  # the hole
    checkpoint.recover(tmp_path)
    found = checkpoint.newest_valid(tmp_path)
    assert found is not None and found[1] == {"a": 1}


def test_the_manifest_names_sizes(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, "step-1", {"a": np.arange(3)})
    files = json.loads((path / "manifest.json").read_text())["files"]
    assert {n: f["bytes"] for n, f in files.items()} == {n: (path / n).stat().st_size for n in files}
