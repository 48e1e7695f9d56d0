"""Waiting for the machines of a cluster, before the driver is begun."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from distdqn.launch.wait import main


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were asked; each time one machine more is there."""
    asked: list[str] = []

    def machines(address: str) -> int:
        asked.append(address)
        return len(asked)

    monkeypatch.setitem(sys.modules, "distdqn.runtime.ray", SimpleNamespace(machines=machines))
    monkeypatch.setattr("distdqn.launch.wait.time.sleep", lambda seconds: None)
    return asked


def test_the_command_takes_its_place_when_all_are_there(joined: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[object] = []
    monkeypatch.setattr("os.execvp", lambda *command: begun.append((len(joined), *command)))
    assert main("auto", "3", "60", "python", "-c", "a b") == 0
    assert begun == [(3, "python", ("python", "-c", "a b"))] and joined == ["auto"] * 3
    assert main("head:6379", "3", "60") == 0 and len(begun) == 1


def test_who_does_not_come_is_said(joined: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main("head:6379", "3", "0") == 1
    assert capsys.readouterr().err == "0 of 3 machines have joined head:6379 within 0 s\n"
