from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from distdqn.run_folder import RunFolder, RunFolderError

HOLDER = """
import sys, time
from distdqn.run_folder import RunFolder
folder = RunFolder.create(sys.argv[1], "name: other\\n")
print("held", flush=True)
time.sleep(60)
"""


def test_a_new_run_has_its_folders_and_config(tmp_path: Path) -> None:
    with RunFolder.create(tmp_path / "runs" / "pong", "name: pong\n") as folder:
        assert folder.config.read_text() == "name: pong\n"
        assert all(p.is_dir() for p in (folder.checkpoints, folder.videos, folder.tensorboard))
        assert not folder.wandb.exists()  # until W&B writes
        assert folder.metrics.name == "metrics.jsonl" and folder.summary.name == "summary.json"


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "pong"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        for refused in (
            lambda: RunFolder.open(path),
            lambda: RunFolder.check(path),
            lambda: RunFolder.create(path, ""),
            lambda: RunFolder.check(path, resume=True),
        ):
            with pytest.raises(RunFolderError, match=rf"process {holder.pid} on \S+ since 2\d\d\d-") as error:
                refused()
            assert "\n" not in str(error.value)
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    RunFolder.open(path).close()  # a dead process holds nothing


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    made = RunFolder.create(tmp_path / "a", "name: a\n")
    with made, pytest.raises(RunFolderError, match=f"process {os.getpid()} "):
        RunFolder.open(tmp_path / "a")
    RunFolder.open(tmp_path / "a").close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a", "name: a\n")
    ready, forked = os.pipe()
    end, stop = os.pipe()
    if (child := os.fork()) == 0:
        os.close(stop)
        os.write(forked, b"1")
        os.read(end, 1)
        os._exit(0)
    os.read(ready, 1)
    assert folder._lock is not None
    os.close(folder._lock)  # all that the kernel does for a process that dies
    folder._lock = None
    try:
        RunFolder.open(tmp_path / "a").close()
    finally:
        for descriptor in (ready, forked, end, stop):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_create_refuses_a_run_and_a_foreign_folder(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "a", "name: a\n").close()
    with pytest.raises(RunFolderError, match=f"distdqn resume {tmp_path}/a"):
        RunFolder.create(tmp_path / "a", "name: b\n")
    assert (tmp_path / "a" / "config.yaml").read_text() == "name: a\n"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(RunFolderError, match=r"thesis\.tex.*another run_dir"):
        RunFolder.create(tmp_path / "home", "")
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["thesis.tex"]
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder.create(tmp_path / "home" / "thesis.tex" / "run", "")


def test_check_makes_nothing(tmp_path: Path) -> None:
    assert RunFolder.check(tmp_path / "x" / "y") == tmp_path / "x" / "y"
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.check(tmp_path / "x", resume=True)
    with pytest.raises(RunFolderError, match="holds no run"):
        RunFolder.open(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_half_made_folder_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.lock").touch()
    (tmp_path / "a" / ".config.yaml.tmp").touch()
    RunFolder.create(tmp_path / "a", "name: a\n").close()


def flock_says(number: int) -> Any:
    """A file system whose flock is refused with an error, or with 0 says yes to everybody."""

    def flock(descriptor: int, how: int) -> None:
        if number:
            raise OSError(number, os.strerror(number))

    return flock


@pytest.mark.parametrize("number", [0, errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_without_locks_who_comes_last_owns_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", flock_says(number))
    first = RunFolder.create(tmp_path / "a", "name: a\n")
    first.refuse_another_owner()
    assert RunFolder.check(tmp_path / "a", resume=True) == tmp_path / "a"
    second = RunFolder.open(tmp_path / "a")
    assert second.ours and not first.ours
    with pytest.raises(RunFolderError, match=rf"^\S+/a was taken over by process {os.getpid()} on ") as caught:
        first.refuse_another_owner()
    assert "\n" not in str(caught.value)
    first.close()
    assert second.ours  # who has lost it takes nothing away on leaving
    second.close()
    assert not second.ours


def test_a_lock_that_fails_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunFolder.create(tmp_path / "a", "name: a\n").close()
    monkeypatch.setattr(fcntl, "flock", flock_says(errno.EIO))
    with pytest.raises(RunFolderError, match="cannot be locked"):
        RunFolder.open(tmp_path / "a")
    with pytest.raises(RunFolderError, match="cannot be written"):
        RunFolder.create(tmp_path / "b", "name: b\n")


def test_a_fence_that_cannot_be_read_is_no_other_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunFolder.create(tmp_path / "a", "name: a\n") as folder:
        (folder.path / "run.lock").unlink()
        assert folder.ours
        (folder.path / "run.lock").write_text("")  # another one is just taking it
        assert not folder.ours


def test_those_who_ask_in_the_same_moment_get_a_folder_each(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.next_free(tmp_path / "runs" / "a"), range(16)))
    assert {path.name for path in made} == {"a", *(f"a-{i}" for i in range(2, 17))}
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be made"):
        RunFolder.next_free(tmp_path / "file" / "a")
