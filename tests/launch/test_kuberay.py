"""The RayJob that `distdqn launch cluster=kuberay` sends, against KubeRay's schema and its operator's rules."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.launch.helpers import Launcher, stand_in, words
from tests.launch.kubernetes import refused_by_operator, schema

SITE = ("cluster.image=registry/distdqn:1", "cluster.runs.claim=runs", "replay.capacity=100000", "run_dir=runs/catch-1")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def launch(capsys: pytest.CaptureFixture[str]) -> Launcher:
    return Launcher("kuberay", SITE, capsys)


def checked(text: str) -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load(text)
    errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in schema().iter_errors(made)]
    assert errors == [] and refused_by_operator(made) == []
    return made


def pods(made: dict[str, Any]) -> dict[str, Any]:
    cluster = made["spec"]["rayClusterSpec"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    return {"head": cluster["headGroupSpec"], **groups}


def container(group: dict[str, Any]) -> dict[str, Any]:
    (found,) = group["template"]["spec"]["containers"]
    return found


def env(group: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container(group)["env"]}


def driver(made: dict[str, Any]) -> list[str]:
    """The words that arrive after both shells: the submitter's, and the job's, for which Ray quotes them anew."""
    return words(shlex.join(words(made["spec"]["entrypoint"])))


def test_the_schema_and_the_rules_find_what_is_wrong(launch: Launcher) -> None:
    made = checked(launch.shown())
    made["spec"] |= {"entryPoint": "a", "ttlSecondsAfterFinished": "1"}
    found = [error.message for error in schema().iter_errors(made)]
    assert len(found) == 2 and "'entryPoint' was unexpected" in found[0] + found[1]
    made["metadata"]["name"] = "1a"
    made["spec"] |= {"ttlSecondsAfterFinished": 1, "shutdownAfterJobFinishes": False, "suspend": True}
    assert refused_by_operator(made) == ["name", "suspend", "ttl"]


def test_pods_of_each_kind(launch: Launcher) -> None:
    learner = ("cluster.learner.pods=1", "cluster.learner.cpus=4", "cluster.head.cpus=2")
    actors = ("cluster.actors.pods=3", "cluster.actors.cpus=16", "cluster.actors.memory=20Gi")
    made = checked(launch.shown(*learner, *actors))
    found = pods(made)
    assert list(found) == ["head", "learner", "actors"] and found["actors"]["replicas"] == 3
    for group in found.values():
        limits = container(group)["resources"]
        assert limits["requests"] == limits["limits"] and container(group)["image"] == "registry/distdqn:1"
    assert container(found["actors"])["resources"]["limits"] == {"cpu": "16", "memory": "20Gi"}
    assert container(found["learner"])["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert found["actors"]["rayStartParams"]["num-cpus"] == "16"
    words = driver(made)
    others = 1 + 1 + 1  # learner, shard, evaluator
    assert f"actors.count={2 + 4 + 3 * 16 - others}" in words and "learner.device=cuda" in words
    assert words[:6] == ["python", "-m", "distdqn.launch.wait", "auto", "5", "900"]
    assert words[6:11] == ["python", "-m", "distdqn.cli", "train", "--or-resume"]
    assert words[-2:] == ["engine.address=auto", "run_dir=/data/runs/catch-1"]


def test_memory_that_is_shared_holds_the_object_store(launch: Launcher) -> None:
    for group in pods(checked(launch.shown("cluster.actors.pods=1"))).values():
        volumes = {volume["name"]: volume for volume in group["template"]["spec"]["volumes"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container(group)["volumeMounts"]}
        assert mounts == {"shm": "/dev/shm", "runs": "/data"}
        shm = volumes["shm"]["emptyDir"]
        assert shm["medium"] == "Memory" and shm["sizeLimit"].endswith("Mi")
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store >= 256 << 20 and int(shm["sizeLimit"][:-2]) << 20 > store
        assert volumes["runs"]["persistentVolumeClaim"] == {"claimName": "runs"}
    alone = pods(checked(launch.shown("cluster.actors.pods=1", "cluster.runs.shared=false")))
    found = [group["template"]["spec"]["volumes"][1] for group in alone.values()]
    assert "persistentVolumeClaim" in found[0] and found[1] == {"name": "runs", "emptyDir": {}}
    assert "replay.journal_dir=/data/journals" in driver(checked(launch.shown("cluster.runs.shared=false")))
    said = launch.shown("cluster.runs.shared=false", "replay.journal=false")
    assert not [word for word in driver(checked(said)) if "journal_dir" in word]


def test_it_may_save_before_its_pods_go(launch: Launcher) -> None:
    made = checked(launch.shown("cluster.actors.pods=1", "cluster.stop_s=55"))
    head, actors = pods(made).values()
    assert env(head)["RAY_JOB_STOP_WAIT_TIME_S"] == "55" and env(head)["RAY_health_check_period_ms"] == "2000"
    before = container(head)["lifecycle"]["preStop"]["exec"]["command"]
    assert before[3:5] == ["job", "stop"] and before[-1] == made["spec"]["jobId"] == "catch-1"
    assert container(actors)["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "55"]
    assert all(g["template"]["spec"]["terminationGracePeriodSeconds"] > 55 for g in (head, actors))


def test_queues_limits_and_places(launch: Launcher) -> None:
    taints = "[{key: spot, operator: Exists, effect: NoSchedule}]"
    keys = ("cluster.queue=rl", "cluster.time_s=3600", "cluster.retries=3", "cluster.ttl_s=60", "cluster.namespace=ml")
    places = (
        "cluster.actors.pods=1",
        "cluster.actors.node_selector={pool: spot}",
        f"cluster.actors.tolerations={taints}",
    )
    made = checked(launch.shown(*keys, *places, "cluster.head.pod={priorityClassName: high}"))
    assert made["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "rl"} and made["metadata"]["namespace"] == "ml"
    spec = made["spec"]
    assert spec["suspend"] and spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] == 3
    assert (spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (3600, 60)
    head, actors = (group["template"]["spec"] for group in pods(made).values())
    assert actors["nodeSelector"] == {"pool": "spot"} and actors["tolerations"][0]["key"] == "spot"
    assert head["priorityClassName"] == "high" and "tolerations" not in head
    assert not checked(launch.shown())["spec"]["suspend"] and "labels" not in checked(launch.shown())["metadata"]


def test_secrets_are_named_never_written(launch: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "hidden-value")
    key = "cluster.secrets={WANDB_API_KEY: wandb/api-key}"
    typed = "note='${oc.env:WANDB_API_KEY}'"
    text = launch.shown(key, "cluster.actors.pods=1", "cluster.env={A: 1}", typed)
    assert "hidden-value" not in text
    head, actors = pods(made := checked(text)).values()
    assert env(head)["WANDB_API_KEY"] == {"secretKeyRef": {"name": "wandb", "key": "api-key"}}
    assert "WANDB_API_KEY" not in env(actors) and env(actors)["A"] == env(head)["A"] == "1"
    assert typed in driver(made) and made["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    line = launch.refused("cluster.env={WANDB_API_KEY: '${oc.env:WANDB_API_KEY}'}")
    assert "cluster.env.WANDB_API_KEY: a secret's value would be in the text" in line and "hidden-value" not in line


def test_words_reach_the_run_as_they_were_typed(launch: Launcher) -> None:
    note = "note='a $HOME `b` \"c\" > d'"
    assert note in driver(checked(launch.shown(note, "actors.count=3")))


def test_a_name_that_kubernetes_takes(launch: Launcher) -> None:
    for folder, name in (
        ("runs/Pong_Breakout-20260101-120000", "pong-breakout-20260101-120000"),
        ("runs/3", "run"),
        (f"runs/{'long-' * 20}20260101-120000", f"{('long-' * 20)[-32:]}20260101-120000".lstrip("-")),
    ):
        assert checked(launch.shown(f"run_dir={folder}"))["metadata"]["name"] == name
    assert checked(launch.shown("cluster.name=mine"))["spec"]["jobId"] == "mine"


def test_it_is_created_and_kept(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = stand_in(tmp_path, "kubectl", "echo rayjob.ray.io/catch-1 created", monkeypatch)
    said = launch("cluster.namespace=ml", "cluster.actors.pods=1")
    kept = tmp_path / "runs" / "catch-1" / "launch" / "rayjob.yaml"
    assert calls.read_text().split() == ["--namespace", "ml", "create", "-f", str(kept)]
    assert said[0] == "job catch-1: catch, 13 actors on 2 pods" and said[-1].startswith("folder /data/runs/catch-1")
    assert [line.split()[0] for line in said] == ["job", "watch", "stop", "again", "fetch", "folder"]
    assert said[2].split()[:6] == ["stop", "kubectl", "--namespace", "ml", "delete", "rayjob"]
    assert "distdqn-run=catch-1" in said[4] and said[4].endswith("-C /data runs/catch-1 | tar xf -")
    checked(kept.read_text())
    assert launch("cluster.namespace=ml")[0].startswith("job catch-1")  # its folder is no obstacle


def test_what_is_wrong_is_one_line_and_leaves_nothing(
    launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong, named in (
        ("cluster.image=null", "cluster.image=null: must be an image with distdqn in it"),
        ("cluster.runs.claim=null", "cluster.runs.claim=null: must be the name of a PersistentVolumeClaim"),
        ("cluster.runs.path=data", "cluster.runs.path=data: must be an absolute path"),
        ("cluster.head.memory=lots", "cluster.head.memory=lots: must be a quantity of Kubernetes"),
        ("cluster.head.memory=512Mi", "cluster.head.memory=512Mi: must be at least 2Gi"),
        ("cluster.head.tolerations=[1]", "cluster.head.tolerations=[1]: must be a list of mappings"),
        ("cluster.head.pod={containers: []}", "containers is the launcher's"),
        ("cluster.secrets={KEY: plain}", "KEY must be a variable, and come from SECRET/KEY"),
        ("cluster.name=Mine", "cluster.name=Mine: must be up to 47"),
        ("cluster.pods=3", "cluster.pods: unknown key, allowed here: actors, env"),
        ("cluster.learner.pods=2", "cluster.learner.pods=2: must be a whole number from 0 to 1"),
        ("replay.capacity=300000000", "replay.capacity=300000000: needs "),
        (
            "run_dir=/tmp/mine",
            "run_dir=/tmp/mine: must be below the working directory here, since it has the same place",
        ),
        ("engine.address=auto", "engine.address=auto: the launcher says it"),
    ):
        assert named in launch.refused(wrong), wrong
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "cluster=kuberay: there is no kubectl here; --dry-run shows the job" in launch.refused()


def test_what_kubectl_refuses_is_its_line(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    already = 'Error from server (AlreadyExists): rayjobs.ray.io "catch-1" already exists'
    stand_in(tmp_path, "kubectl", f"echo '{already}' >&2; exit 1", monkeypatch)
    assert main_line(launch, tmp_path) == f"distdqn: cluster=kuberay: {already}\n"


def main_line(launch: Launcher, tmp_path: Path) -> str:
    (tmp_path / "calls").write_text("")  # what a stand-in notes is nothing left
    return launch.refused()


def test_groups_of_ones_own_have_to_be_there_too(launch: Launcher, tmp_path: Path) -> None:
    folder = tmp_path / "sites"
    for group in ("cluster", "experiment"):
        (folder / group).mkdir(parents=True)
    (folder / "cluster" / "mine.yaml").write_text("defaults: [kuberay, _self_]\nqueue: rl\n")
    (folder / "experiment" / "own.yaml").write_text("# @package _global_\ndefaults: [catch, _self_]\nseed: 7\n")
    launch.words[1:2] = [f"--config-dir={folder}", "cluster=mine"]
    made = checked(launch.shown())
    assert made["spec"]["suspend"] and not [word for word in driver(made) if "config-dir" in word]
    launch.words[3] = "experiment=own"
    assert "the run takes something from there, which is not where it is sent" in launch.refused()


def test_a_sweep_is_a_job_for_each_run(launch: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launch.words.remove("run_dir=runs/catch-1")
    sweep = ("-m", "seed=1,2", "hydra.sweep.dir=multirun/2026-01-01/12-00-00")
    made = [yaml.safe_load(text) for text in launch.shown(*sweep).split("---\n")[1:]]
    assert [job["metadata"]["name"] for job in made] == ["catch-12-00-00-0", "catch-12-00-00-1"]
    assert ["seed=1" in driver(made[0]), "seed=2" in driver(made[1])] == [True, True]
    assert driver(made[1])[-1] == "run_dir=/data/multirun/2026-01-01/12-00-00/1/catch"
    calls = stand_in(tmp_path, "kubectl", "", monkeypatch)
    assert [line for line in launch(*sweep) if line.startswith("job ")][1].startswith("job catch-12-00-00-1: catch")
    assert calls.read_text().count("create") == 2 and Path("multirun/2026-01-01/12-00-00/multirun.yaml").is_file()
