"""A run as a RayJob of KubeRay: its manifest, and its submission with kubectl."""

import importlib.metadata
import shlex
from typing import Any

import yaml

from distdqn.config import ConfigError
from distdqn.config.kuberay import HeadConfig, KubeRayConfig
from distdqn.launch.job import Job, Typed, kept, prepare, said_by, tool, with_journals_in

GIB, MIB = 1024**3, 1024**2
_MARGIN_S = 20
"""Seconds between the end of a save and the end of its pod."""
_HEAD = """# Written by `distdqn launch`; applied again after its job is gone, it goes on with the run.
"""


def send(site: KubeRayConfig, run: Typed, dry_run: bool) -> None:
    """Submits the run, or shows its manifest. Raises `ConfigError` where kubectl refuses it."""
    if not site.runs.shared:
        run = with_journals_in(f"{site.runs.path}/journals", run)  # of the claim on the head alone
    job = prepare(run, site.cpus, site.gpus, site.name, site.runs.path)
    text = manifest(site, job)
    if dry_run:
        print(f"---\n{text}" if run.sweep else text, end="")
        return
    kubectl = [tool("kubectl", "kuberay"), *(["--namespace", site.namespace] if site.namespace else [])]
    with kept(job.run_dir, {"rayjob.yaml": text}) as folder:
        said_by([*kubectl, "create", "-f", str(folder / "rayjob.yaml")], "kuberay")
    shown, actors = shlex.join(["kubectl", *kubectl[1:]]), job.config.actors.places
    file, folder_there = shlex.quote(str(folder / "rayjob.yaml")), shlex.quote(job.path)
    head = f"$({shown} get pod -o name -l distdqn-run={job.name},ray.io/node-type=head)"
    pods = f"{site.machines} {'pod' if site.machines == 1 else 'pods'}"
    print(f"job {job.name}: {run.config.name}, {actors} actors on {pods}")
    print(f"watch  {shown} get rayjob {job.name}; {shown} logs -f job/{job.name}")
    print(f"stop   {shown} delete rayjob {job.name}    (saves; created again it goes on)")
    print(f"again  {shown} replace --force -f {file}")
    print(f"fetch  {shown} exec {head} -c ray -- tar cf - -C {shlex.quote(site.runs.path)} {folder_there} | tar xf -")
    print(f"folder {site.runs.path}/{job.path} in the claim {site.runs.claim}")


def manifest(site: KubeRayConfig, job: Job) -> str:
    """The text of the RayJob.

    Raises:
        ConfigError: a pod's memory, or that of all, cannot hold what the run needs.
    """
    _refuse_small_pods(site, job)
    labels = {"kueue.x-k8s.io/queue-name": site.queue} if site.queue else {}
    names = {"name": job.name, **({"namespace": site.namespace} if site.namespace else {})}
    command = job.waiting(site.python, f"{site.runs.path}/{job.path}", "auto", site.machines, site.start_s)
    spec: dict[str, Any] = {
        "entrypoint": shlex.join(command),  # passes through a shell of the submitter and, quoted anew, one of the job
        "jobId": job.name,
        "submissionMode": "K8sJobMode",
        "suspend": site.suspend or site.queue is not None,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": site.ttl_s,
        "backoffLimit": site.retries,  # each is a new cluster with the same entrypoint, which goes on
    }
    if site.time_s is not None:
        spec["activeDeadlineSeconds"] = site.time_s
    spec["rayClusterSpec"] = {
        "rayVersion": importlib.metadata.version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": _ray(site.head, job, head=True), "template": _head(site, job)},
        "workerGroupSpecs": [
            {
                "groupName": name,
                "replicas": group.pods,
                "minReplicas": group.pods,
                "maxReplicas": group.pods,
                "rayStartParams": _ray(group, job),
                "template": _worker(site, group, job),
            }
            for name, group in site.groups.items()
        ],
    }
    made = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {**names, "labels": labels}, "spec": spec}
    if not labels:
        del made["metadata"]["labels"]  # type: ignore[attr-defined]
    return _HEAD + yaml.dump(made, Dumper=_Dumper, sort_keys=False, width=120)


class _Dumper(yaml.SafeDumper):
    """Repeats what is the same in several places, since people read it."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _refuse_small_pods(site: KubeRayConfig, job: Job) -> None:
    shared = _shared(job)
    for pod in (site.head, *site.groups.values()):
        if pod.bytes < shared + GIB:
            least = -(-(shared + GIB) // GIB)
            pod.refuse("memory", f"at least {least}Gi: {shared / GIB:.1f} GiB of it are shared memory for what travels")
    free = site.bytes - site.machines * (shared + GIB)
    if job.replay > free * 0.9:
        why = f"needs {job.replay / GIB:.1f} GiB, all pods together have {free / GIB:.1f} GiB for it"
        raise ConfigError(f"replay.capacity={job.config.replay.capacity}: {why}; raise cluster.actors.memory")


def _shared(job: Job) -> int:
    """Bytes of /dev/shm: the object store, and a tenth for what else is there."""
    return (job.store + job.store // 10) // MIB * MIB + 64 * MIB


def _ray(pod: HeadConfig, job: Job, head: bool = False) -> dict[str, str]:
    """What `ray start` is told; GPUs it takes from the container's limits."""
    common = {"num-cpus": str(pod.cpus), "object-store-memory": str(job.store)}
    return {"dashboard-host": "0.0.0.0", **common} if head else common


def _head(site: KubeRayConfig, job: Job) -> dict[str, Any]:
    """The pod of the head. Before it goes, the job is told to end, and saves."""
    env = {
        "RAY_JOB_STOP_WAIT_TIME_S": str(site.stop_s),  # else three
        # a machine whose cable is cut is noticed in about 10 seconds instead of 65
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
    }
    stop = [site.python, "-m", "ray.scripts.scripts", "job", "stop", "--address=http://127.0.0.1:8265", job.name]
    secrets = [
        {"name": name, "valueFrom": {"secretKeyRef": dict(zip(("name", "key"), source.split("/"), strict=True))}}
        for name, source in site.secrets.items()
    ]
    return _pod(site, site.head, job, env, secrets, stop, on_disk=True)


def _worker(site: KubeRayConfig, group: HeadConfig, job: Job) -> dict[str, Any]:
    """A pod beside it, which stays for as long as the run may save."""
    return _pod(site, group, job, {}, [], ["sleep", str(site.stop_s)], on_disk=site.runs.shared)


def _pod(
    site: KubeRayConfig,
    pod: HeadConfig,
    job: Job,
    env: dict[str, str],
    secrets: list[dict[str, Any]],
    before_it_goes: list[str],
    on_disk: bool,
) -> dict[str, Any]:
    resources: dict[str, Any] = {"cpu": str(pod.cpus), "memory": pod.memory}
    if pod.gpus:
        resources[pod.gpu] = str(pod.gpus)
    variables = {"RAY_USAGE_STATS_ENABLED": "0", **env, **{k: str(v) for k, v in site.env.items()}}
    container: dict[str, Any] = {
        "name": "ray",
        "image": site.image,
        "resources": {"requests": resources, "limits": resources},
        "env": [*({"name": name, "value": value} for name, value in variables.items()), *secrets],
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}, {"name": "runs", "mountPath": site.runs.path}],
        "lifecycle": {"preStop": {"exec": {"command": before_it_goes}}},
    }
    if site.pull_policy:
        container["imagePullPolicy"] = site.pull_policy
    shm = {"medium": "Memory", "sizeLimit": f"{_shared(job) // MIB}Mi"}
    spec: dict[str, Any] = {
        "containers": [container],
        "volumes": [
            {"name": "shm", "emptyDir": shm},
            {"name": "runs", **({"persistentVolumeClaim": {"claimName": site.runs.claim}} if on_disk else _EMPTY)},
        ],
        "terminationGracePeriodSeconds": site.stop_s + _MARGIN_S,
        "securityContext": {"fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch"},  # who is in the image may write
    }
    if pod.node_selector:
        spec["nodeSelector"] = dict(pod.node_selector)
    if pod.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in pod.tolerations]
    return {"metadata": {"labels": {"distdqn-run": job.name}}, "spec": {**spec, **pod.pod}}


_EMPTY: dict[str, Any] = {"emptyDir": {}}
