"""What came out of the environment is known, whatever way it took, and stands as it was typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from distdqn.cli import main
from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.config.stored import as_shown, as_typed, config_yaml, load_config

ASKED = [
    "experiment=cartpole",
    "note=${oc.env:CANARY}",
    "name=${note}-x",
    "env.id=${oc.env:NOWHERE,CartPole-v1}",
    "seed='${oc.decode:${oc.env:SEED}}'",
    "+env.kwargs.a.b=[1,${oc.env:CANARY}]",
    "+env.kwargs.dollar='\\${HOME}'",
    "track.group=${oc.env:CANARY}",
    "track.tags=[a,'${oc.env:CANARY}']",
    "run_dir=a",
]


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    monkeypatch.setenv("CANARY", "tweet")
    monkeypatch.setenv("SEED", "7")
    return compose(ASKED)


def test_the_values_are_used_and_what_was_typed_is_written(config: RunConfig, tmp_path: Path) -> None:
    assert (config.note, config.name, config.seed, config.env.id) == ("tweet", "tweet-x", 7, "CartPole-v1")
    assert config.env.kwargs == {"a": {"b": [1, "tweet"]}, "dollar": "${HOME}"}
    text = config_yaml(config)
    assert "tweet" not in text
    written = yaml.safe_load(text)
    assert (written["note"], written["name"]) == ("${oc.env:CANARY}", "${note}-x")
    assert written["seed"] == "${oc.decode:${oc.env:SEED}}" and written["env"]["kwargs"]["a"]["b"][0] == 1
    assert written["learner"]["batch_size"] == config.learner.batch_size  # an interpolation, but not from there

    (tmp_path / "config.yaml").write_text(text)
    loaded = load_config(tmp_path, ["learner.batch_size=9"])
    assert loaded == replace(config, run_dir=str(tmp_path), learner=replace(config.learner, batch_size=9))
    assert "tweet" not in config_yaml(loaded)


def test_what_is_shown_is_what_was_typed(config: RunConfig) -> None:
    shown = as_shown(config, config.typed)
    assert (shown.note, shown.name, shown.env.id) == ("${oc.env:CANARY}", "${note}-x", "${oc.env:NOWHERE,CartPole-v1}")
    assert (config.track.group, config.track.tags) == ("tweet", ("a", "tweet"))
    assert (shown.track.group, shown.track.tags) == ("${oc.env:CANARY}", ("a", "${oc.env:CANARY}"))
    assert shown.seed == 7 and "tweet" not in str(as_typed(shown))


def test_a_variable_that_is_missing_is_one_line(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.yaml").write_text(config_yaml(config))
    monkeypatch.delenv("CANARY")
    for act in (lambda: load_config(tmp_path), lambda: compose(ASKED)):
        with pytest.raises(ConfigError, match="CANARY") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_what_is_typed_is_no_key() -> None:
    for key in ("typed", "named_by_chance"):
        with pytest.raises(ConfigError, match=f"{key}: unknown key"):
            compose([f"{key}=true"])


def test_only_a_folder_that_nobody_asked_for_is_named_by_chance() -> None:
    assert compose(["experiment=catch"]).named_by_chance
    assert not compose(["experiment=catch", "run_dir=runs/catch-20260101-000000"]).named_by_chance


@pytest.mark.parametrize(
    "key", ["env.game='${oc.env:CANARY}'", "learner.device='a${oc.env:CANARY}'", "env.kwargs.key='${oc.env:CANARY}'"]
)
def test_a_refusal_shows_what_was_typed(
    key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CANARY", "tweet")
    gym = ("env.kind=gym", "env.id=CartPole-v1") if "kwargs" in key else ("env=atari",)
    assert main(["train", *gym, key, f"run_dir={tmp_path / 'run'}"]) == 2
    said = capsys.readouterr().err
    assert "${oc.env:CANARY}" in said and "tweet" not in said and said.count("\n") == 1
