"""What `distdqn launch` sends, and that it sends nothing where something is wrong."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from distdqn.cli import main

SLURM = ("launch", "cluster=slurm", "experiment=catch", "learner.device=cpu")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Slurm's command says and does is in this file."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '4711;cluster'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def shown(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The job of a dry run."""
    assert main([*SLURM, "--dry-run", *more]) == 0
    text = capsys.readouterr().out
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    return text


def refused(capsys: pytest.CaptureFixture[str], *more: str) -> str:
    before = set(Path().rglob("*"))
    assert main([*SLURM, *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and set(Path().rglob("*")) == before
    return err


def options(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]


def driver(text: str, task: int = 0) -> list[str]:
    """The arguments that the job, or a task of its array, gives to `train`."""
    (line,) = (line for line in text.splitlines() if "distdqn.cli train" in line)
    words = line.partition("distdqn.cli ")[2].removesuffix(" &")
    what = text.partition("nothing to set up\n")[2] or text.partition("ulimit -n 65536\n")[2]
    what = what.partition("\npython=")[0]
    script = f"SLURM_ARRAY_TASK_ID={task}; address=there:1\n{what}\nprintf '%s\\0' {words}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout.split("\0")[:-1]


def test_a_job_of_one_kind_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    site = ("cluster.head.nodes=3", "cluster.head.cpus=16", "cluster.time=90", "cluster.head.gres='gpu:1'")
    text = shown(capsys, *site, "cluster.account=rl", "cluster.head.options={mail-type: END, contiguous: null}")
    asked = options(text)
    for option in ("nodes=3", "cpus-per-task=16", "time=90", "gres=gpu:1", "account=rl", "mail-type=END", "requeue"):
        assert f"--{option}" in asked
    assert "--contiguous" in asked and "--signal=B:USR1@120" in asked and "hetjob" not in asked
    assert not [option for option in asked if "None" in option]
    others = 1 + 1 + 1  # learner, shard, evaluator
    assert f"actors.count={3 * 16 - others}" in driver(text)
    assert "step 2 16 " in text and "ready 3 300" in text and "step 4" not in text


def test_a_job_of_two_kinds_of_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ("cluster.head.cpus=8", "cluster.actors.nodes=2", "cluster.actors.cpus=64", "cluster.actors.partition=cpu")
    text = shown(capsys, *kinds, "cluster.requeue=false")
    first, _, second = text.partition("#SBATCH hetjob")
    assert "--partition" not in first and "--partition=cpu" in second and "--cpus-per-task=64" in second
    assert "step 2 64 --het-group=1" in text and "ready 3 300" in text and "again=no;" in text
    assert "actors.count=133" in driver(text)


def test_words_reach_the_run_as_they_were_typed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = shown(capsys, "actors.count=3", "note='a $HOME `b` \"c\"'", f"run_dir='{tmp_path}/my run'")
    found = driver(text)
    assert found[:2] == ["train", "--or-resume"] and "note='a $HOME `b` \"c\"'" in found
    assert found[-2:] == ["engine.address=there:1", f"run_dir={tmp_path}/my run"] and "actors.count=3" in found


def test_a_site_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "sites" / "cluster").mkdir(parents=True)
    own = tmp_path / "sites" / "cluster" / "mine.yaml"
    own.write_text("")
    assert main(["launch", "--config-dir", "sites", "cluster=mine", "experiment=catch"]) == 2
    assert "cluster.kind=None: must be one of kuberay, local, ray_job, ray_up, slurm" in capsys.readouterr().err
    own.write_text("defaults: [slurm, _self_]\naccount: rl\nsetup: [module load python, ulimit -n 65536]\n")
    assert main(["launch", "--dry-run", "--config-dir", "sites", "cluster=mine", "experiment=catch"]) == 0
    text = capsys.readouterr().out
    assert "--account=rl" in options(text) and "--time=24:00:00" in options(text)
    assert "module load python\nulimit -n 65536\n" in text
    assert driver(text)[2:4] == ["--config-dir", str(tmp_path / "sites")]
    own.write_text("defaults: [slurm, _self_]\ntime: 12:00:00\n")
    assert main(["launch", "--dry-run", "--config-dir", "sites", "cluster=mine", "experiment=catch"]) == 2
    assert "cluster.time=43200: must be less than 3600 as a number of minutes, or in quotes" in capsys.readouterr().err


def test_it_is_submitted_and_kept(capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path) -> None:
    assert main([*SLURM, "run_dir=run"]) == 0
    said = capsys.readouterr().out.splitlines()
    job = tmp_path / "run" / "launch" / "job.sbatch"
    assert said[0] == "job 4711: catch, 5 actors on 1 node" and said[-1] == f"folder {tmp_path / 'run'}"
    assert said[1].endswith(f"{tmp_path}/run/launch/job-4711.log") and "scancel" in said[2] and str(job) in said[3]
    assert "#SBATCH --job-name=catch" in job.read_text()


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path
) -> None:
    for wrong, named in (
        ("cluster.partition=gpu", "cluster.partition: unknown key, allowed here: account"),
        ("cluster.head.options={--mail: 1}", "--mail is not an option of sbatch"),
        ("cluster.head.cpus=2", "cluster.head.cpus: 2 cores in all, this run takes at least 4"),
        ("cluster.head.nodes=0", "cluster.head.nodes=0: must be at least 1"),
        ("engine.address=auto", "engine.address=auto: the launcher says it"),
        ("learner.batch_size=0", "learner.batch_size=0: must be"),
        ("cluster=kuberay", "cluster: say once where to"),
    ):
        assert named in refused(capsys, wrong)
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: no' >&2\nexit 1\n")
    assert "cluster=slurm: sbatch: error: invalid partition specified: no" in refused(capsys)
    sbatch.unlink()
    os.environ["PATH"] = str(sbatch.parent)  # put back by the fixture
    assert "there is no sbatch here; --dry-run shows the job" in refused(capsys)
    assert main(["launch", "cluster=nowhere"]) == 2
    names = "aws, gcp, kuberay, local, ray_job, ray_up, slurm"
    assert f"cluster=nowhere: must be one of {names}, or a file of yours (--config-dir)" in capsys.readouterr().err


def test_a_sweep_is_an_array(capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path) -> None:
    sweep = ("-m", "seed=1,2", "agent=dqn,c51", "cluster.at_once=3", "hydra.sweep.dir='my sweep'")
    text = shown(capsys, *sweep)
    assert "--array=0-3%3" in options(text) and list(tmp_path.iterdir()) == [sbatch.parent]
    folder = tmp_path / "my sweep"
    for task, (seed, agent) in enumerate(itertools.product(("1", "2"), ("dqn", "c51"))):
        words = driver(text, task)
        group = f"track.group={tmp_path.name}-my sweep"
        assert {f"seed={seed}", f"agent={agent}", "experiment=catch", group} <= set(words)
        assert f"run_dir={folder / str(task) / f'catch-{agent}'}" == words[-1]
    assert main([*SLURM, *sweep]) == 0
    said = capsys.readouterr().out
    assert "job 4711: 4 runs of catch-dqn-catch-c51, 5 actors on 1 node each" in said and "scancel 4711" in said
    assert (folder / "launch" / "job.sbatch").read_text() == text
    kept = yaml.safe_load((folder / "multirun.yaml").read_text())
    assert kept["hydra"]["sweep"]["dir"] == str(folder)


def test_a_sweep_over_two_kinds_of_nodes_is_a_job_for_each_run(
    capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path
) -> None:
    assert main([*SLURM, "-m", "cluster.actors.nodes=2", "cluster.at_once=2", "seed=range(3)"]) == 0
    assert "jobs 4711 4711 4711: 3 runs" in capsys.readouterr().out
    texts = [path.read_text() for path in sorted(tmp_path.glob("multirun/*/*/launch/job-?.sbatch"))]
    assert [driver(text)[4] for text in texts] == ["seed=0", "seed=1", "seed=2"]
    heads = [options(text.partition("hetjob")[0]) for text in texts]
    assert [f"--job-name=catch-{i % 2}" in head for i, head in enumerate(heads)] == [True] * 3
    # a singleton waits for others of its name, and all parts of a job wait with the first one
    others = [options(text.partition("hetjob")[2]) for text in texts]
    assert [f"--job-name=catch-{i % 2}-actors" in other for i, other in enumerate(others)] == [True] * 3
    assert all("--dependency=singleton" in head and "--array" not in " ".join(head) for head in heads)


def test_a_sweep_over_numbers_of_nodes_is_a_job_for_each_run(
    capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path
) -> None:
    sweep = ("-m", "cluster.head.nodes=1,3", "cluster.at_once=1", "seed=1,2", "hydra.sweep.dir=sweep")
    assert main([*SLURM, *sweep]) == 0
    assert "4 runs of catch, 5-21 actors on 1-3 nodes each" in capsys.readouterr().out
    texts = [(tmp_path / "sweep" / "launch" / f"job-{i}.sbatch").read_text() for i in range(4)]
    for i, (text, (nodes, seed)) in enumerate(zip(texts, itertools.product((1, 3), (1, 2)), strict=True)):
        assert {f"--nodes={nodes}", "--job-name=catch-0", "--dependency=singleton"} <= set(options(text))
        words = driver(text)
        assert {f"seed={seed}", f"actors.count={8 * nodes - 3}"} <= set(words)
        assert words[-1] == f"run_dir={tmp_path / 'sweep' / str(i) / 'catch'}"


@pytest.mark.parametrize(
    ("how", "folders"), [((), ["0", "1", "2", "3"]), (("hydra.sweep.subdir='${seed}'",), ["1-0", "3-0", "1-1", "3-1"])]
)
def test_each_run_of_a_sweep_over_machines_has_a_folder(
    capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path, how: tuple[str, ...], folders: list[str]
) -> None:
    sweep = ("-m", "cluster.head.nodes=1,2", "seed=1,3", "hydra.sweep.dir=sweep", *how)
    assert main([*SLURM, *sweep]) == 0
    texts = [(tmp_path / "sweep" / "launch" / f"job-{i}.sbatch").read_text() for i in range(4)]
    assert [
        Path(driver(text)[-1].partition("=")[2]).relative_to(tmp_path / "sweep").parts[0] for text in texts
    ] == folders


def test_folders_elsewhere_are_for_one_number_of_machines(
    capsys: pytest.CaptureFixture[str], sbatch: Path, tmp_path: Path
) -> None:
    elsewhere = ("-m", "seed=1,2", f"run_dir={tmp_path}/out-${{seed}}", "hydra.sweep.dir=sweep")
    assert main([*SLURM, *elsewhere]) == 0
    assert driver((tmp_path / "sweep" / "launch" / "job.sbatch").read_text(), 1)[-1] == f"run_dir={tmp_path}/out-2"
    assert main([*SLURM, *elsewhere, "cluster.head.nodes=1,2"]) == 2
    assert "below hydra.sweep.dir=DIR" in capsys.readouterr().err
    assert main([*SLURM, "-m", "cluster.head.nodes=glob(*)"]) == 2
    assert "write the values, as cluster.head.nodes=1,2" in capsys.readouterr().err


def test_what_is_wrong_in_a_sweep_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], sbatch: Path
) -> None:
    assert "seed=no: must be a whole number" in refused(capsys, "-m", "seed=1,no")
    assert "experiment=no: must be one of" in refused(capsys, "-m", "experiment=catch,no")
    assert "run_dir: each run of a sweep has a folder of its own" in refused(capsys, "-m", "seed=1,2", "run_dir=x")
    assert "several runs are train -m" in refused(capsys, "seed=1,2")
    assert "cluster.at_once=0: must be" in refused(capsys, "-m", "seed=1,2", "cluster.at_once=0")
    sbatch.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    assert "cluster=slurm: no" in refused(capsys, "-m", "seed=1,2")


@pytest.mark.slow
def test_a_sweep_on_this_machine_goes_on_and_ends_with_a_table(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keys = ("-m", "experiment=catch", "engine=local", "seed=1,2", "replay.min_size=200", "screen=off")
    more = ("evaluation.final_episodes=2", "tensorboard=false", "track=disabled", "hydra.sweep.dir=sweep")
    for frames in (1000, 2000):
        assert main(["train", "--or-resume", *keys, *more, f"budget.env_frames={frames}"]) == 0
        rows = [line.split() for line in capfd.readouterr().out.splitlines()[-3:]]
        assert rows[0] == ["run", "seed", "outcome", "frames", "updates", "evaluation", "best", "time"]
        assert [row[:3] for row in rows[1:]] == [["0/catch", "1", "done"], ["1/catch", "2", "done"]]
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("sweep/?/catch/summary.json")]
    assert len(summaries) == 2 and all(s["env_frames"] >= 2000 for s in summaries)
    assert main(["plot", "sweep"]) == 0
    assert "1/catch" in capfd.readouterr().out and Path("curves.png").is_file()


@pytest.mark.slow
def test_this_machine_trains_on_without_the_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    keys = ("experiment=catch", "engine=local", "replay.min_size=200", "evaluation.every_seconds=null")
    more = ("evaluation.final_episodes=2", "tensorboard=false", "track=disabled", "run_dir=run")

    def launch(budget: str) -> int:
        assert main(["launch", "cluster=local", *keys, *more, budget]) == 0
        return int(capsys.readouterr().out.split()[1])

    def ended(pid: int) -> bool:
        return os.waitpid(pid, os.WNOHANG)[0] == pid

    first = launch("budget.env_frames=100000000")
    log, summary = tmp_path / "run" / "launch" / "run.log", tmp_path / "run" / "summary.json"
    end = time.monotonic() + 120
    while "running" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    os.kill(first, signal.SIGTERM)
    while not ended(first) and time.monotonic() < end:
        time.sleep(0.1)
    before = json.loads(summary.read_text())
    assert before["outcome"] == "stopped"
    second = launch(f"budget.env_frames={int(before['env_frames']) + 2000}")
    while not ended(second) and time.monotonic() < end:
        time.sleep(0.1)
    after = json.loads(summary.read_text())
    assert after["outcome"] == "done" and "resuming from" in log.read_text()
