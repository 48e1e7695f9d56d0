from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.laboratory.__main__ import main
from tests.laboratory.gpu import Check, _emulate


def test_each_part_goes_on_if_another_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = Check(tmp_path, 500, ["learner.device=cpu"])

    def found(*arguments: Any) -> dict[str, Any]:
        return {"figure": 7}

    def failed(*arguments: Any) -> dict[str, Any]:
        raise RuntimeError("no\ndevice")

    for name in ("doctor", "updates", "bench", "pong", "breakout"):
        monkeypatch.setattr(check, name, found)
    for name in ("tests", "emulators"):
        monkeypatch.setattr(check, name, failed)
    console = Console(width=120)
    with console.capture() as shown:
        figures = check.run(console)
    assert [(p["failed"], p["figures"]) for p in figures["parts"][:3]] == [
        ("", {"figure": 7}),
        ("no device", {}),
        ("no device", {}),
    ]
    assert sum(not p["failed"] for p in figures["parts"]) == 7
    assert json.loads((tmp_path / "gpu_check.json").read_text()) == figures
    assert "no device" in shown.get() and "Breakout as Ape-X" in shown.get()


def test_what_a_part_says_is_kept(tmp_path: Path) -> None:
    check = Check(tmp_path, 100, [])
    assert check._command("well", 60, "-c", "print('said')") == "said\n" == (tmp_path / "well.log").read_text()
    with pytest.raises(RuntimeError, match=r"ended with 1: ValueError: bad \(wrong\.log\)"):
        check._command("wrong", 60, "-c", "raise ValueError('bad')")
    with pytest.raises(TimeoutError, match=r"it was given 0 s \(late\.log\)"):
        check._command("late", 0.2, "-c", "import time; time.sleep(60)")


def test_without_time_nothing_is_begun(tmp_path: Path) -> None:
    figures = Check(tmp_path, 10, []).run(Console(quiet=True))
    assert {p["failed"] for p in figures["parts"]} == {"no time was left for it"}


def test_emulators_play() -> None:
    assert _emulate(0.1) > 0


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["gpu", f"run_dir={tmp_path}", "learner.device=cpu"])
    assert "cannot be made (File exists)" in capsys.readouterr().err
