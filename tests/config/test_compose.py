from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from distdqn.config import ConfigError, Import, RunConfig, from_mapping, to_mapping
from distdqn.config.compose import compose
from distdqn.config.keys import conf_dir, experiments
from distdqn.config.stored import load_config
from distdqn.envs.registry import check_env
from distdqn.machine import Machine
from distdqn.runtime.preflight import GIB, check

NAMES = sorted(experiments())
LARGE = Machine(64, 8, 1024 * GIB, 1024 * GIB, 1024 * GIB)


CORES = 16


@pytest.fixture(params=[0, 1], ids=["cpu", "gpu"])
def gpus(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def on_machine(gpus: int, cores: int, *overrides: str) -> RunConfig:
    """What a machine with so many GPUs and cores would run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distdqn.config.compose.cuda_devices", lambda: gpus)
        patch.setattr("distdqn.config.compose.inspect", lambda: replace(LARGE, cores=cores))
        return compose([*overrides, "run_dir=a"])


@cache
def composed(name: str, gpus: int) -> RunConfig:
    """The experiment on a machine with so many GPUs; Hydra takes half a second for each."""
    return on_machine(gpus, CORES, f"experiment={name}")


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
    assert config.name == name and config.note.startswith("form=")
    check(config, check_env(config.env), LARGE)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_read_back_as_it_was(name: str, gpus: int, tmp_path: Path) -> None:
    config = replace(composed(name, gpus), run_dir=str(tmp_path))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))
    assert load_config(tmp_path) == config
    assert from_mapping(RunConfig, yaml.safe_load((tmp_path / "config.yaml").read_text())) == config


@pytest.mark.parametrize("group", ["agent", "env", "engine", "form", "env/protocol", "track"])
def test_every_choice_of_a_group_composes(group: str) -> None:
    for path in (conf_dir() / group).glob("*.yaml"):
        compose([f"{group}={path.stem}"])


def test_pong_is_the_default() -> None:
    config = compose([])
    assert (config.name, config.env.game) == ("pong", "pong")
    assert config.run_dir.startswith("runs/pong-")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("experiment=rainbow", "rainbow"),
        ("env.game=breakout", "pong-breakout"),
        ("env.game=pong", "pong"),
        ("experiment=catch env=gridworld", "catch-gridworld"),
        ("experiment=cartpole env.id=my_module:ALE/Pong-v5", "cartpole-ALE-Pong-v5"),
        ("experiment=catch env.kind=my_module:MyEnv agent=c51", "catch-MyEnv-c51"),
        ("env.game=breakout name=mine", "mine"),
    ],
)
def test_a_run_is_named_after_what_it_plays_and_learns(overrides: str, name: str) -> None:
    config = compose(overrides.split())
    assert config.name == name and config.run_dir.startswith(f"runs/{name}-2")


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ("", 64),
        ("experiment=catch", 32),
        ("agent=r2d2", 160),  # a window of 124 steps, in strides of 40
        ("agent=drqn", 70),
        ("agent=drqn actors.rollout_steps=20", 20),
        ("experiment=catch agent.n_step=40", 40),
    ],
)
def test_a_segment_has_room_for_the_agents_windows(overrides: str, steps: int) -> None:
    assert compose(overrides.split()).actors.rollout_steps == steps


@pytest.mark.parametrize(
    ("overrides", "gpus_here", "form"),
    [
        ("", 0, "cores"),
        ("", 1, "gpu"),
        ("learner.device=cuda", 0, "gpu"),
        ("learner.device=cuda:1", 0, "gpu"),
        ("learner.device=cpu", 1, "cores"),
        ("engine.address=auto", 1, "cluster"),
        ("engine.address=head:6379", 0, "cluster"),
        ("form=cores", 1, "cores"),
        ("form=cores engine.address=auto", 1, "cores"),
        ("form=gpu", 0, "gpu"),
        ("experiment=c51", 0, "cores"),
        ("experiment=cartpole", 1, "small"),
        ("experiment=cartpole form=gpu", 0, "gpu"),
    ],
)
def test_the_form_is_that_of_the_machine_unless_it_is_said(overrides: str, gpus_here: int, form: str) -> None:
    note = on_machine(gpus_here, 2, *overrides.split()).note
    assert note.split(":")[0] == f"form={form}"


def test_pong_is_smaller_on_cores() -> None:
    cores, gpu, cluster = (on_machine(0, 2, f"form={form}") for form in ("cores", "gpu", "cluster"))
    assert (cores.env.frame_size, cores.agent.network.torso.kind, cores.actors.count) == (42, "small", 1)
    assert (gpu.env.frame_size, gpu.agent.network.torso.kind) == (84, "dqn_2015")
    assert cluster == replace(gpu, note=cluster.note, replay=replace(gpu.replay, shards=4))


def test_published_agents_play_with_all_that_the_machine_has(gpus: int) -> None:
    for name in ("dqn_2015", "rainbow", "apex", "r2d2"):
        actors = composed(name, gpus).actors
        assert actors.count == (CORES if gpus else CORES // 4)
    assert composed("btr", gpus).slots == 64
    assert (composed("bbf", gpus).slots, composed("drq", gpus).slots) == (1, 4)


def test_an_override_wins_over_the_experiment() -> None:
    config = compose(["experiment=cartpole", "learner.batch_size=7", "env.id=Acrobot-v1", "engine.lockstep=true"])
    assert (config.learner.batch_size, config.env.id, config.engine.lockstep) == (7, "Acrobot-v1", True)
    assert compose(["env/protocol=machado"]).env.protocol.sticky == 0.25


@pytest.mark.parametrize("experiment", ["pong", "r2d2", "munchausen_iqn"])
def test_an_agent_is_taken_whole(experiment: str) -> None:
    """What an experiment on a published agent learns with is its agent's file, and nothing stays behind of it."""
    asked = [f"experiment={experiment}", "learner.device=cpu", "run_dir=a"]
    assert compose([*asked, "agent=rainbow"]).agent == compose(["experiment=rainbow", "learner.device=cpu"]).agent
    assert compose([*asked, "agent=dqn_2015", "agent.discount=0.9"]).agent.discount == 0.9


def test_only_small_environments_tune_their_agent() -> None:
    for path in (conf_dir() / "experiment").glob("*.yaml"):
        values = yaml.safe_load(path.read_text())
        assert "agent" not in values or {"override /form": "small"} in values["defaults"], path.stem


@pytest.mark.parametrize("text", ["env.kwargs.gravity=3.5", "+env.kwargs.gravity=3.5", "env.kwargs={gravity: 3.5}"])
def test_an_environment_takes_its_own_arguments(text: str) -> None:
    assert compose(["experiment=cartpole", text]).env.kwargs == {"gravity": 3.5}


@pytest.mark.parametrize("text", ["experiment", "--batch", "=3", "learner.batch_size=[1", "a=b=c", "seed=${nope}"])
def test_what_is_not_an_override_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose([text])
    assert "\n" not in str(caught.value) and text.split("=")[0] in str(caught.value)


def test_a_class_of_ones_own_is_named_without_quotes() -> None:
    config = compose(["agent.network.torso.kind=my_pkg.mod:Torso", "env.kind=my_pkg.mod:Env", "env.kwargs={size: 5}"])
    assert isinstance(config.agent.network.torso.kind, Import)
    assert (config.env.kind, config.env.kwargs) == ("my_pkg.mod:Env", {"size": 5})


@pytest.mark.parametrize(
    ("keys", "address", "form"),
    [
        ((), "auto", "cluster"),
        (("engine.address=null",), None, "cores"),
        (("engine.address=head:6379",), "head:6379", "cluster"),
        (("engine=local",), None, "cores"),
        (("engine.kind=local",), None, "cores"),
    ],
)
def test_a_job_of_a_cluster_joins_it(
    keys: tuple[str, ...], address: str | None, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distdqn.config.compose.cuda_devices", lambda: 0)
    assert compose(["experiment=pong"]).engine.address is None
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = compose(["experiment=pong", *keys])
    assert config.engine.address == address and config.note.startswith(f"form={form}")
    assert "address" not in config.typed.get("engine", {})
