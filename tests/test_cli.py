"""The doors: what is asked for wrongly ends in one line, with code 2, before anything is made or started."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from distdqn import checkpoint
from distdqn.cli import main
from distdqn.config import to_mapping
from distdqn.config.compose import compose
from distdqn.config.keys import experiments
from distdqn.envs.registry import check_env
from distdqn.learn.learner import Learner
from distdqn.machine import Machine
from distdqn.run_folder import RunFolder
from distdqn.runtime.preflight import GIB

Door = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Door:
    """Calls a door in an empty folder; gives the line it ends with. Neither Ray nor a run may be begun."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "distdqn.runtime.ray", raising=False)

    def begun(*args: Any) -> int:
        raise AssertionError("a run was begun")

    monkeypatch.setattr("distdqn.runtime.run.train", begun)
    monkeypatch.setattr("distdqn.runtime.run.resume", begun)

    def call(*arguments: str) -> str:
        try:
            code = main(arguments)
        except SystemExit as left:  # argparse
            code = int(left.code or 0)
        out, err = capsys.readouterr()
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert list(folder.iterdir()) == []
        return err

    return call


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ("learner.batchsize=3", "learner.batchsize: unknown key"),
        ("learner.batchsize=3", "batch_size"),
        ("nothing=3", "nothing: unknown key"),
        ("+learner.new=3", "learner.new: unknown key"),
        ("hydra.nope=3", "hydra.nope: Key 'nope' not in"),
        ("experiment=pongg", "experiment=pongg: must be one of apex"),
        ("experiment=pong,catch", "experiment=pong,catch: one value only"),
        ("form=laptop", "form=laptop: must be one of cluster, cores, gpu, small"),
        ("agent=3", "agent=3: must be one of"),
        ("env=atarii", "env=atarii: must be one of atari"),
        ("env=cartpole", "experiment=cartpole is there"),
        ("env=my_module:MyEnv", "a class of one's own is env.kind=my_module:MyEnv"),
        ("agent.sequence.overlap=3", "agent.sequence.overlap=3: must be below agent.sequence.length=1"),
        ("agent=rainbo", "agent=rainbo: must be one of"),
        ("env/protocol=modern", "env/protocol=modern: must be one of classic, machado"),
        ("seed=abc", "seed=abc: must be a whole number"),
        ("actors=3", "actors=3: must be a group of keys: count"),
        ("actors=[1]", "actors: "),
        ("learner.batch_size=1,2", "learner.batch_size=1,2: one value only"),
        ("learner.batch_size=0", "learner.batch_size=0: must be a whole number from 1"),
        ("learner.step_size=1", "learner.step_size: is now learner.optimizer.learning_rate"),
        ("agent.network.torso=impala", "agent.network.torso: is now agent.network.torso.kind"),
        ("learner.optimizer.learning_rate=inf", "learner.optimizer.learning_rate=inf: must be a number above 0"),
        ("learner.device=gpu", "learner.device=gpu: must be one of auto, cpu, cuda"),
        ("env.game=pongg", "env.game=pongg: must be the snake_case id of an Atari game, such as pong"),
        ("env.game=SpaceInvaders", "space_invaders"),
        ("env.game=combat", "env.game=combat"),
        ("experiment=cartpole env.id=Pendulum-v1", "env.id=Pendulum-v1: needs a discrete action space"),
        ("experiment=cartpole env.id=CartPol-v1", "CartPole-v1"),
        ("experiment=cartpole env.id=no_such_module:Thing-v0", "env.id=no_such_module:Thing-v0"),
        ("experiment=cartpole env.kwargs.nonsense=3", "env.kwargs"),
        ("env=gym env.id=CartPole-v1", "agent.network.torso.kind=small: needs images"),
        (
            "agent.exploration.kind=greedy",
            "agent.exploration.kind=greedy: explores only with agent.network.head.noisy=true",
        ),
        ("experiment=r2d2 agent.sequence.burn_in=90", "agent.sequence.burn_in=90: must not be longer"),
        ("experiment=rainbow agent.network.head.v_max=null", "agent.network.head.v_max=null"),
        ("experiment=cartpole env.hide=[4]", "env.hide="),
        ("agent.network.torso.pretrained=nowhere.safetensors", "agent.network.torso.pretrained="),
        ("agent=tabular", "agent.network.torso.kind=tabular: needs one-hot vectors"),
        (
            "agent.n_step=65 actors.rollout_steps=64",
            "agent.n_step=65: a window of 65 steps must fit into a segment, at most actors.",
        ),
        ("learner.batch_size=4000 replay.capacity=2000", "learner.batch_size=4000: must be at most replay.capacity"),
        ("replay.min_size=999999", "replay.min_size=999999"),
        ("budget.env_frames=null", "budget.seconds"),
        ("run_dir=", "run_dir"),
        ("run_dir=/dev/null/run", "/dev/null is a file"),
        ("screen", "screen: not an override"),
        ("~learner.new", "learner.new"),
        ("--nonsense", "train does not know --nonsense"),
        ("--cfg=some", "--cfg"),
        ("--cfg=job -m", "not allowed with"),
        ("--config-dir=nowhere", "nowhere"),
        ("--resolve", "--resolve"),
    ],
)
def test_a_bad_setting(refused: Door, overrides: str, named: str) -> None:
    assert named in refused("train", "learner.device=cpu", *overrides.split())


@pytest.mark.parametrize(
    ("machine", "overrides", "named"),
    [
        (Machine(2, 0, 4 * GIB, 2 * GIB, 2 * GIB), "replay.capacity=50000000", "replay.capacity=50000000: needs "),
        (Machine(2, 0, 64 * GIB, 64 * GIB, GIB // 8), "", "/dev/shm has 0.1 GiB"),
        (Machine(2, 0, 64 * GIB, 64 * GIB, GIB), "actors.count=5000", "actors.count=5000: "),
        (Machine(2, 0, 64 * GIB, 64 * GIB, GIB), "learner.batch_size=200000", "learner.batch_size=200000: "),
        (Machine(2, 0, 64 * GIB, 64 * GIB, GIB), "learner.device=cuda", "learner.device=cuda: no such CUDA device"),
        (Machine(2, 1, 64 * GIB, 64 * GIB, 64 * GIB), "learner.device=cuda:3", "learner.device=cuda:3: "),
    ],
)
def test_a_machine_that_is_too_small(
    refused: Door, machine: Machine, overrides: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distdqn.runtime.preflight.inspect", lambda: machine)
    assert named in refused("train", "learner.device=cpu", *overrides.split())


def test_a_disk_that_is_full(refused: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distdqn.runtime.preflight.disk_free", lambda path: 1024**2)
    line = refused("train", "learner.device=cpu", "run_dir=far/away")
    assert "run_dir=" in line and "0.00 GiB free" in line


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a CartPole run that has saved once."""
    path = tmp_path / "run"
    config = compose(["experiment=cartpole", "learner.device=cpu", f"run_dir={path}"])
    learner = Learner(config.agent, config.learner, check_env(config.env), seed=0)
    with RunFolder.create(path, yaml.safe_dump(to_mapping(config))) as folder:
        checkpoint.save(folder.checkpoints, "step-000000000000", {"learner": learner.state()})
    return path


def rewrite(path: Path, part: str, **keys: Any) -> None:
    """Changes keys of a part of the network in a run's config.yaml."""
    values = yaml.safe_load((path / "config.yaml").read_text())
    values["agent"]["network"][part].update(keys)
    (path / "config.yaml").write_text(yaml.safe_dump(values))


def test_a_folder_that_is_not_this_runs(refused: Door, run: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").touch()
    assert "already holds a run" in refused("train", "learner.device=cpu", f"run_dir={run}")
    assert "thesis.tex" in refused("train", "learner.device=cpu", f"run_dir={foreign}")
    assert "thesis.tex" in refused("train", "--or-resume", "learner.device=cpu", f"run_dir={foreign}")
    assert "run_dir: --or-resume has to be told" in refused("train", "--or-resume", "learner.device=cpu")
    assert "no config.yaml" in refused("resume", str(foreign))
    assert "no config.yaml" in refused("resume", str(tmp_path / "nowhere"))
    with RunFolder.open(run):
        assert "is in use by process" in refused("resume", str(run))
        assert "is in use by process" in refused("train", "learner.device=cpu", f"run_dir={run}")


@pytest.mark.parametrize("change", [{"hidden": [64]}, {"dueling": True}, {"hidden": [128, 64]}])
def test_a_resume_with_a_changed_network(refused: Door, run: Path, change: dict[str, Any]) -> None:
    rewrite(run, "head", **change)
    assert "agent.network: step-000000000000 does not fit" in refused("resume", str(run))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("agent.network.head.dueling=true", "agent.network: step-000000000000 does not fit"),
        ("env.id=Acrobot-v1", "env.id=Acrobot-v1: this run plays env.id=CartPole-v1"),
        ("env.hide=[1]", "env.hide=(1,): this run plays env.hide=()"),
        ("env.protocol.sticky=0.25", "env.protocol.sticky=0.25: this run plays"),
        ("learner.batchsize=3", "learner.batchsize: unknown key"),
        ("budget.seconds=0", "budget.seconds=0: must be a number above 0"),
        ("further", "further: not an override"),
    ],
)
def test_a_resume_with_a_bad_override(refused: Door, run: Path, override: str, named: str) -> None:
    assert named in refused("resume", str(run), override)


def test_a_resume_with_a_damaged_config(refused: Door, run: Path) -> None:
    rewrite(run, "torso", kind="transformer")
    assert "agent.network.torso.kind=transformer" in refused("resume", str(run))
    (run / "config.yaml").write_text("{")
    assert "cannot be read" in refused("resume", str(run))
    (run / "config.yaml").write_bytes(b"name: \xff\xfe")
    assert "cannot be read" in refused("resume", str(run))
    (run / "config.yaml").write_text("- a\n- b\n")
    assert "it holds no keys" in refused("resume", str(run))


def test_a_resume_of_what_was_saved_and_is_damaged(refused: Door, run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        (path / "manifest.json").unlink(missing_ok=True)
    assert "nothing to resume" in refused("resume", str(run))


def test_a_resume_that_fits_is_begun(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr("distdqn.runtime.run.resume", lambda config, spec: begun.append(config.run_dir) or 3)
    assert main(["resume", str(run)]) == 3 and begun == [str(run)]


def test_a_resume_in_a_job_of_a_cluster_joins_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    monkeypatch.setattr("distdqn.runtime.run.resume", lambda config, spec: begun.append(config.engine.address) or 3)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    for keys in (["engine.kind=ray"], ["engine.kind=ray", "engine.address=null"], ["engine.kind=local"]):
        assert main(["resume", str(run), *keys]) == 3
    assert begun == ["auto", None, None]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["trian"], "trian"),
        ([], "DOOR"),
        (["resume"], "RUN"),
        (["evaluate", "run", "--episodes", "0"], "--episodes"),
        (["evaluate", "nowhere"], "nowhere"),
        (["record", "nowhere"], "nowhere"),
        (["plot", "nowhere"], "nowhere"),
        (["doctor", "twice"], "twice"),
    ],
)
def test_a_door_that_is_asked_wrongly(refused: Door, arguments: list[str], named: str) -> None:
    assert named in refused(*arguments)


def test_a_checkpoint_that_is_not_there(refused: Door, run: Path) -> None:
    line = refused("evaluate", str(run), "--checkpoint", "step-7")
    assert "--checkpoint=step-7: must be best, newest or one of step-000000000000" in line


def test_help_shows_examples_and_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, example in (
        (["bench", "--help"], "distdqn bench --seconds 1 experiment=catch"),
        (["--help"], "distdqn train experiment=cartpole"),
        (["train", "--help"], "distdqn train experiment=cartpole"),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        text = capsys.readouterr().out
        assert example in text
    listed = dict(line.split(maxsplit=1) for line in text.splitlines() if len(line.split(maxsplit=1)) == 2)
    assert experiments() and all(listed[name] == line for name, line in experiments().items())


def test_every_key_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--keys"]) == 0
    assert "learner.batch_size=512" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("--cfg job --resolve experiment=catch run_dir=here", "name: catch\n"),
        ("--cfg job -p learner.batch_size learner.batch_size=7", "7\n"),
        ("--info defaults", "| experiment/pong "),
        ("--hydra-help", "hydra/launcher"),
        ("-sc install=bash", "complete "),
    ],
)
def test_hydras_own_words_are_understood(
    arguments: str, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # where --hydra-help adds one
    try:
        code = main(["train", *arguments.split()])
    except SystemExit as left:
        code = int(left.code or 0)
    assert code == 0 and shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("distdqn re", "resume record"),
        ("distdqn train experiment=ca", "experiment=cartpole experiment=catch"),
        ("distdqn train experiment=catch learner.optimizer.learn", "learner.optimizer.learning_rate="),
        ("distdqn resume runs/a learner.batch", "learner.batch_size="),
        ("distdqn plot ru", ""),
    ],
)
def test_a_shell_completes(
    line: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.strip() == words


Begun = list[tuple[Any, Any]]


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begun:
    """The runs that are begun, in an empty folder; each is done with the code that its seed says, modulo 10."""
    runs: Begun = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distdqn.runtime.run.train", lambda *run: runs.append(run) or run[0].seed % 10)
    return runs


def test_a_sweep_is_a_run_after_the_other(begun: Begun, tmp_path: Path) -> None:
    assert main(["train", "-m", "seed=10,20", "experiment=catch,cartpole", "engine=local"]) == 0
    configs = [config for config, _ in begun]
    assert [(c.seed, c.name) for c in configs] == [(10, "catch"), (10, "cartpole"), (20, "catch"), (20, "cartpole")]
    assert [c.agent.n_step for c in configs] == [3, 10, 3, 10]
    (day,) = (tmp_path / "multirun").iterdir()
    (sweep,) = day.iterdir()
    assert [c.run_dir for c in configs] == [str(sweep / str(i) / c.name) for i, c in enumerate(configs)]
    assert main(["train", "-m", "env.game=pong,breakout", "seed=10"]) == 0
    assert [c.name for c, _ in begun[4:]] == ["pong", "pong-breakout"]


def test_a_sweep_ends_with_the_worst_code(begun: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", "seed=10,abc,20", "experiment=catch"]) == 2
    assert [config.seed for config, _ in begun] == [10, 20]
    assert capsys.readouterr().err == "distdqn: seed=abc: must be a whole number from 0 to 2147483647\n"
    assert main(["train", "-m", "seed=10,13,20", "experiment=catch"]) == 3
    assert [config.seed for config, _ in begun[2:]] == [10, 13]


def test_groups_of_ones_own(begun: Begun, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "short.yaml").write_text(
        "# @package _global_\ndefaults: [catch, _self_]\nbudget: {env_frames: 2000}\n"
    )
    assert main(["train", "--config-dir", "mine", "experiment=short", "hydra.job.name=any", "seed=10"]) == 0
    ((config, _),) = begun
    assert (config.name, config.budget.env_frames, config.env.kind) == ("short", 2000, "catch")
    assert {path.name for path in tmp_path.iterdir()} == {"mine"}


def test_what_is_right_is_begun(begun: Begun, tmp_path: Path) -> None:
    assert main(["train", "experiment=catch", "run_dir=runs/a", "seed=10"]) == 0
    ((config, spec),) = begun
    expected = compose(["experiment=catch", "run_dir=runs/a", "seed=10"])
    assert config == replace(expected, run_dir=str(tmp_path / "runs" / "a")) and spec == check_env(expected.env)


def test_one_command_starts_a_run_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = (
        "experiment=catch",
        "engine=local",
        "replay.min_size=200",
        "evaluation.every_seconds=null",
        "track=disabled",
    )
    more = ("evaluation.final_episodes=2", "tensorboard=false", "screen=lines", "run_dir=run")

    def train(*changes: str) -> int:
        return main(["train", "--or-resume", *keys, *more, *changes])

    assert train("budget.updates=20") == 0
    assert "resuming" not in capsys.readouterr().out
    assert train("budget.updates=40", "learner.batch_size=16") == 0
    assert "resuming from step-000000000020" in capsys.readouterr().out
    summary = json.loads(Path("run", "summary.json").read_text())
    assert (summary["learner_updates"], summary["outcome"]) == (40, "done")
    assert train("budget.updates=60", "seed=2") == 2
    assert "holds another run (seed=1 there, 2 here), choose another run_dir" in capsys.readouterr().err
    assert train("agent.discount=0.5") == 2
    assert "(agent.discount=" in capsys.readouterr().err


def test_runs_of_the_same_second_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Clock:
        @staticmethod
        def now() -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distdqn.config.compose.datetime", Clock)
    monkeypatch.setattr("distdqn.runtime.run._run", lambda *_: 0)
    for _ in range(3):
        assert main(["train", "experiment=catch", "engine=local"]) == 0
    names = ["catch-20260102-030405", "catch-20260102-030405-2", "catch-20260102-030405-3"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names
    for name in names:
        path = tmp_path / "runs" / name
        assert yaml.safe_load((path / "config.yaml").read_text())["run_dir"] == str(path)
    assert main(["train", "experiment=catch", "engine=local", f"run_dir=runs/{names[0]}"]) == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["train", "learner.batchsize=3"], ["train", "env.game=pongg"], ["trian"]])
def test_a_process_leaves_with_code_2(tmp_path: Path, arguments: list[str]) -> None:
    code = "import sys; sys.modules['ray'] = None; from distdqn.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(Path(__file__).resolve().parent.parent), "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("distdqn: ") and list(tmp_path.iterdir()) == []


def test_who_reads_no_further_ends_it_without_a_word() -> None:
    program = "from distdqn.cli import entry; entry()"
    command = [sys.executable, "-c", program, "train", "--keys"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None and shown.stderr is not None
        shown.stdout.close()
        assert (shown.stderr.read(), shown.wait()) == ("", 141)


@pytest.mark.parametrize("code", [0, 2, 3])
def test_a_stopped_run_waits_for_nobodys_exit_hook(code: int) -> None:
    hook = f"import atexit; from distdqn import cli; cli.main = lambda: {code}; "
    program = hook + "atexit.register(lambda: print('hook', flush=True)); cli.entry()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ("hook" in ended.stdout) is (code != 3)
