"""Runs `distdqn launch`, with stand-ins for the tools of a site."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distdqn.cli import main


class Launcher:
    """`distdqn launch cluster=KIND` on Catch, with `keys`, in an empty working directory."""

    def __init__(self, kind: str, keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
        self.words = ["launch", f"cluster={kind}", "experiment=catch", *keys]
        self._capsys = capsys

    def __call__(self, *more: str) -> list[str]:
        """What it says."""
        assert main([*self.words, *more]) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out.splitlines()

    def shown(self, *more: str) -> str:
        """What a dry run shows; nothing is left."""
        before = set(Path().rglob("*"))
        said = self("--dry-run", *more)
        assert set(Path().rglob("*")) == before
        return "\n".join(said) + "\n"

    def refused(self, *more: str) -> str:
        """The line with which it is refused; nothing is left."""
        before = set(Path().rglob("*"))
        assert main([*self.words, *more]) == 2
        out, err = self._capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and set(Path().rglob("*")) == before
        return err


def stand_in(folder: Path, name: str, lines: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `name` beside the interpreter, of these lines of shell, whose words are noted in the file given."""
    calls = folder / "calls"
    bin = folder / "bin"
    bin.mkdir(exist_ok=True)
    program = bin / name
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" >>{calls}\n{lines}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bin / "python"))
    return calls


def words(line: str) -> list[str]:
    """The words that a shell makes of `line`."""
    done = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def sound(script: str) -> None:
    """A shell can read it, and where shellcheck is there, it finds nothing."""
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    if shutil.which("shellcheck"):
        done = subprocess.run(["shellcheck", "-S", "warning", "-"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout
