import json
from pathlib import Path

import pytest

from distdqn.cli import main

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


@pytest.mark.parametrize("kind", ["prioritized", "uniform"])
def test_all_stages_are_measured(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    config = ["experiment=catch", "engine=local", f"replay.kind={kind}"]
    assert main(["bench", "--seconds", "0.2", *config, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert [name for name in STAGES if name not in printed] == []
    figures = json.loads(out.read_text())
    whole = figures["whole"]
    assert whole["samples_per_s"] > 0 and whole["cpu"]["process"] > 0
    assert whole["resident"]["process"] > whole["shard_bytes"] > 0
    assert figures["limit"]["binding"] == "serial"
    assert figures["fraction_of_limit"] > 0
    assert (figures["stages"]["priority"]["wall"] == 0) == (kind == "uniform")


@pytest.mark.parametrize(
    "flag", ["--seconds=fast", "--seconds=0", "--seconds=nan", "--out=/no/such/folder/x.json", "--out=/tmp"]
)
def test_a_bad_flag_is_named(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", flag])
    (line,) = capsys.readouterr().err.splitlines()
    name, value = flag.split("=")
    assert left.value.code == 2 and f"{name}: {value}: must be" in line


def test_a_bad_key_of_the_config_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "experiment=catch", "learner.batch=3"]) == 2
    assert "learner.batch" in capsys.readouterr().err
