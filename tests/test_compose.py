from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from distdqn.config import ConfigError, RunConfig, from_mapping, to_mapping
from distdqn.config.compose import compose, conf_dir, experiments
from distdqn.config.stored import load_config
from distdqn.envs.registry import check_env
from distdqn.machine import Machine
from distdqn.runtime.preflight import GIB, check

NAMES = sorted(experiments())
LARGE = Machine(64, 8, 1024 * GIB, 1024 * GIB, 1024 * GIB)


@pytest.fixture(params=[0, 1], ids=["cpu", "gpu"])
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("distdqn.config.compose.cuda_devices", lambda: request.param)
    return int(request.param)


@cache
def composed(name: str, gpus: int) -> RunConfig:
    """The experiment on a machine with so many GPUs; Hydra takes half a second for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdqn.config.compose.cuda_devices", lambda: gpus)
        return compose([f"experiment={name}"])


def test_the_experiments_are_there() -> None:
    assert {"pong", "cartpole", "gridworld", "catch", "dqn_2015", "apex"} <= set(NAMES)
    assert {"dqn_2013", "rainbow", "iqn", "r2d2", "drqn", "ngu", "recall", "chain"} <= set(NAMES)
    assert all(experiments().values())


@pytest.mark.parametrize("name", NAMES)
def test_an_experiments_file_says_what_it_is(name: str) -> None:
    lines = (conf_dir() / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_" and lines[1].startswith("# ")
    assert experiments()[name] == lines[1][2:]


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_composes_and_fits_its_environment(name: str, gpus: int) -> None:
    config = composed(name, gpus)
    assert config.name == name and name in config.run_dir
    check(config, check_env(config.env), LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_read_back_as_it_was(name: str, gpus: int, tmp_path: Path) -> None:
    config = replace(composed(name, gpus), run_dir=str(tmp_path))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))
    assert load_config(tmp_path) == config
    assert from_mapping(RunConfig, yaml.safe_load((tmp_path / "config.yaml").read_text())) == config


@pytest.mark.parametrize("name", ["drqn", "r2d2", "munchausen_iqn"])
def test_the_groups_of_an_experiment_that_builds_on_another(name: str) -> None:
    unsaid = compose([f"experiment={name}", "run_dir=a"])
    said = compose([f"experiment={name}", "env=atari", "run_dir=a"])
    assert said == unsaid
    other = compose([f"experiment={name}", "env=gridworld", "agent=mlp", "run_dir=a"])
    assert (other.env.kind, other.agent.name, other.agent.network.torso) == ("gridworld", "mlp", "mlp")


@pytest.mark.parametrize("group", ["agent", "env", "engine", "env/protocol"])
def test_every_choice_of_a_group_composes(group: str) -> None:
    for path in (conf_dir() / group).glob("*.yaml"):
        compose([f"{group}={path.stem}"])


def test_pong_is_the_default() -> None:
    assert compose([]).name == "pong" and compose([]).env.game == "pong"


@pytest.mark.parametrize(
    ("device", "gpus_here", "form"),
    [("auto", 0, "cpu"), ("auto", 1, "gpu"), ("cuda", 0, "gpu"), ("cuda:1", 0, "gpu"), ("cpu", 1, "cpu")],
)
def test_pong_takes_the_form_of_its_device(
    device: str, gpus_here: int, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distdqn.config.compose.cuda_devices", lambda: gpus_here)
    config = compose([f"learner.device={device}"])
    assert config.learner.device == device and config.note
    if form == "gpu":
        assert (config.env.frame_size, config.agent.network.torso) == (84, "dqn_2015")
    else:
        assert config.env.frame_size is not None and config.env.frame_size < 84
        assert config.agent.network.torso == "small"


def test_an_override_wins_over_the_experiment() -> None:
    config = compose(["experiment=cartpole", "learner.batch_size=7", "env.id=Acrobot-v1", "engine.lockstep=true"])
    assert (config.learner.batch_size, config.env.id, config.engine.lockstep) == (7, "Acrobot-v1", True)
    assert compose(["env/protocol=machado"]).env.protocol.sticky == 0.25


def test_a_group_that_replaces_the_experiments_own_is_taken_whole() -> None:
    agent = compose(["experiment=pong", "agent=dqn_2015", "agent.discount=0.9"]).agent
    assert (agent.n_step, agent.network.torso, agent.network.hidden) == (1, "dqn_2015", (512,))
    assert (agent.discount, agent.exploration.final_epsilon) == (0.9, 0.1)
    assert compose(["agent=mlp", "env=catch"]).env.frame_size is None


def test_the_experiments_own_group_said_again_changes_nothing() -> None:
    said, unsaid = compose(["env=atari", "agent=dqn", "run_dir=a"]), compose(["run_dir=a"])
    assert said == unsaid


@pytest.mark.parametrize("text", ["env.kwargs.gravity=3.5", "+env.kwargs.gravity=3.5", "env.kwargs={gravity: 3.5}"])
def test_an_environment_takes_its_own_arguments(text: str) -> None:
    assert compose(["experiment=cartpole", text]).env.kwargs == {"gravity": 3.5}


@pytest.mark.parametrize("text", ["experiment", "--batch", "=3", "learner.batch_size=[1", "a=b=c", "seed=${nope}"])
def test_what_is_not_an_override_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([text])
    assert "\n" not in str(caught.value) and text.split("=")[0] in str(caught.value)
