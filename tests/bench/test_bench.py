import json
import sys
from pathlib import Path

import pytest

from distdqn.bench.main import Options, bench, split
from distdqn.cli import main
from distdqn.config import ConfigError

STAGES = (
    "emulators alone",
    "inference alone",
    "acting",
    "adding",
    "sampling",
    "priorities",
    "through the engine",
    "learner at hand",
    "limit of the whole",
    "whole system",
    "fraction of the limit",
    "bytes per transition",
    "resident memory",
)


@pytest.mark.parametrize("more", [["replay.capacity=4000", "memory_minutes=0.01"], ["replay.kind=uniform"]])
def test_all_stages_are_measured(more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert bench(["experiment=catch", "engine=local", "seconds=0.2", f"out={out}", *more]) == 0
    printed = capsys.readouterr().out
    assert [name for name in STAGES if name not in printed] == []
    figures = json.loads(out.read_text())
    assert figures["whole"]["samples_per_s"] > 0 and figures["whole"]["cpu"]["process"] > 0
    assert figures["limit"]["binding"] == "serial"
    assert figures["fraction_of_limit"] > 0
    assert figures["memory"]["full"] == (len(more) == 2)
    assert (figures["stages"]["priority"]["wall"] == 0) == (more == ["replay.kind=uniform"])


def test_own_keys_are_taken_out() -> None:
    options, rest = split(["experiment=catch", "seconds=2", "actors.count=1", "memory_minutes=20", "~env"])
    assert options == Options(seconds=2.0, memory_minutes=20.0)
    assert rest == ["experiment=catch", "actors.count=1", "~env"]


@pytest.mark.parametrize(
    "text",
    ["seconds=fast", "seconds=0", "seconds=nan", "memory_minutes=-1", "peer=rllib", "out=/no/such/folder/x.json"],
)
def test_a_bad_own_key_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="must be") as caught:
        split([text])
    assert str(caught.value).startswith(text) and "\n" not in str(caught.value)


def test_a_bad_key_of_the_config_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "experiment=catch", "learner.batch=3"]) == 2
    assert "learner.batch" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["stable_baselines3", "cv2"])
def test_a_missing_peer_is_one_line(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["bench", "peer=sb3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "peer=sb3" in line and "distdqn[bench]" in line


@pytest.mark.parametrize("unequal", ["learner.batch_size=64", "env.frame_size=42", "agent.n_step=3"])
def test_unequal_terms_are_refused(unequal: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("cv2")
    assert main(["bench", "peer=sb3", unequal]) == 2
    assert unequal in capsys.readouterr().err
