"""What the nodes of a job say of their Python and Ray before Ray starts there."""

from __future__ import annotations

import json
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from distdqn.launch import software

HERE = socket.gethostname()


def other(**differs: str) -> str:
    """What another machine says."""
    return json.dumps({"host": "head", "Python": platform.python_version(), "Ray": version("ray"), **differs})


def test_what_one_says_the_other_understands_without_the_package(tmp_path: Path) -> None:
    def run(*said: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", software.__file__, *said]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    said = run()
    assert json.loads(said.stdout) == {**json.loads(other()), "host": HERE}
    assert (run(said.stdout).returncode, run(other(Python="3.9.1")).returncode) == (0, 2)


@pytest.mark.parametrize(("name", "theirs"), [("Python", "3.9.1"), ("Ray", "2.1.0")])
def test_who_differs_says_so_in_one_line(capsys: pytest.CaptureFixture[str], name: str, theirs: str) -> None:
    assert software.main(other(**{name: theirs})) == 2
    mine = json.loads(other())[name]
    assert capsys.readouterr() == ("", f"distdqn: {HERE} has {name} {mine}, head has {theirs}\n")


def test_who_has_no_ray_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_ray", lambda: "")
    assert software.main(other(Ray="2.1.0")) == 2
    assert capsys.readouterr().err == f"distdqn: {HERE} has no Ray, head has 2.1.0\n"


def test_the_last_number_counts_where_it_does_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    major, minor, _ = platform.python_version_tuple()
    assert software.main(other(Python=f"{major}.{minor}.99")) == 2
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    assert software.main(other(Python=f"{major}.{minor}.99")) == 0
    assert software.main(other(Python=f"{major}.99.1")) == 2
