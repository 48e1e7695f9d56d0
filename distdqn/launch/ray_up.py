"""A run on machines that `ray up` makes a cluster of: a cloud's, or those that one has, by ssh."""

import hashlib
import os
import secrets
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

from distdqn.config import ConfigError
from distdqn.config.ray_sites import RayUpConfig
from distdqn.launch.job import Job, Typed, kept, key_of, prepare, tool
from distdqn.launch.slurm import fill

_DRIVERS = {"aws": "'boto3>=1.4.8'", "gcp": "google-api-python-client"}
"""What the head needs to ask a cloud for machines."""


def send(site: RayUpConfig, run: Typed, dry_run: bool) -> None:
    """Makes the cluster and starts the run on it, or shows how. Raises `ConfigError` where a command of Ray fails."""
    if run.sweep:
        raise ConfigError("cluster=ray_up: takes one run at a time; cluster=ray_job and slurm take sweeps")
    job = prepare(run, site.cpus, site.gpus, site.name, site.folder)
    launch = job.run_dir / "launch"
    texts = {"cluster.yaml": cluster(site, job, launch), "machine.sh": machine(site, job)}
    if dry_run:
        for name, text in texts.items():
            print(f"### {launch / name}\n{text}", end="")
        print(f"### ray up, then ray exec: {_on_head(job, 'run')}")
        return
    ray = tool("ray", "ray_up")
    with kept(job.run_dir, texts):
        pass
    file = launch / "cluster.yaml"
    _token(launch / "token")
    about = shlex.quote(str(file))
    _run(
        [ray, "up", "-y", "--no-config-cache", "--disable-usage-stats", str(file)],
        f"what it has made is taken back by ray down {about}",
    )
    _run([ray, "exec", "--no-config-cache", str(file), _on_head(job, "run")], f"the cluster is up: see {about}")
    where = "machine" if site.machines == 1 else "machines"
    print(f"cluster {job.name}: {run.config.name}, {job.config.actors.places} actors on {site.machines} {where}")
    print(f"watch  ray exec {about} {shlex.quote(_on_head(job, 'watch'))}")
    print(f"stop   ray exec {about} {shlex.quote(_on_head(job, 'stop'))}    (saves)")
    print(f"again  ray exec {about} {shlex.quote(_on_head(job, 'run'))}")
    print(f"fetch  ray rsync-down {about} {shlex.quote(f'{site.folder}/{job.path}/')} {shlex.quote(f'{job.path}/')}")
    if site.local:
        print(
            f"end    ray exec {about} {shlex.quote(_on_head(job, 'end'))}    (Ray on the others ends with the head's)"
        )
    else:
        print(f"end    ray down -y {about}    (until then the machines cost money)")
    print(f"folder {site.folder}/{job.path} on the head")


def cluster(site: RayUpConfig, job: Job, launch: Path) -> str:
    """The text of the file for `ray up`. `launch`: the folder here from which the machines get their script and the
    cluster's token."""
    there, python = f"~/.distdqn/{job.name}", shlex.quote(site.python)
    script = f"bash {there}/machine.sh ray start"
    temporary = f"--temp-dir={_scratch(job)}" if site.local else ""  # others may have /tmp/ray
    common = f"--object-store-memory={job.store}"
    head = [f"--head --port={site.port} --autoscaling-config=~/ray_bootstrap_config.yaml", _room(site.head), common]
    if site.local:
        head += [f"--node-ip-address={site.provider['head_ip']}", temporary]
    address = f"{site.provider['head_ip'] if site.local else '$RAY_HEAD_IP'}:{site.port}"
    other = [f"--address={address}", _room(site.actors), common, temporary]
    made: dict[str, Any] = {
        "cluster_name": job.name,
        "max_workers": site.others,
        "provider": {key: list(v) if isinstance(v, tuple) else v for key, v in site.provider.items()},
        "auth": {key: _here(v) if key.endswith("_key") else v for key, v in site.auth.items()},
        "file_mounts": {
            **{str(path): _here(source) for path, source in site.files.items()},
            f"{there}/machine.sh": str(launch / "machine.sh"),
            f"{there}/token": str(launch / "token"),
        },
        "initialization_commands": [],
        "setup_commands": list(site.setup),
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [" ".join([script, *filter(None, head)])],
        "worker_start_ray_commands": [" ".join([script, *filter(None, other)])],
    }
    if package := _DRIVERS.get(site.provider["type"]):
        made["head_setup_commands"] = [f"{python} -m pip install -q {package}"]
    if site.image:
        made["docker"] = {"image": site.image, "container_name": "distdqn"}
    if not site.local:
        made["head_node_type"] = "head"
        made["available_node_types"] = {"head": _kind(site.head, 0)}
        if site.others:
            made["available_node_types"]["actors"] = _kind(site.actors, site.others)
    note = "# Written by `distdqn launch` for `ray up`.\n"
    return note + yaml.safe_dump({**made, **site.options}, sort_keys=False, width=200)


def machine(site: RayUpConfig, job: Job) -> str:
    """The text of the script that each machine has."""
    address = f"{site.provider['head_ip']}:{site.port}" if site.local else "auto"
    command = job.waiting("", job.path, address, site.machines, site.start_s)  # its interpreter is the script's
    # version 2 takes the head for one of the others where machines are not a cloud's, so that one never comes
    autoscaler = "export RAY_enable_autoscaler_v2=0" if site.local else ""
    values = {"python": site.python, "name": job.name, "folder": site.folder, "autoscaler": autoscaler}
    values |= {"run": shlex.quote(job.path), "here": _scratch(job)}
    words = [shlex.quote(word) if word else '"$python"' for word in command]
    if not site.shared and not {"replay.journal", "replay.journal_dir"} & set(map(key_of, job.arguments)):
        words.append('"replay.journal_dir=$here/journals"')  # on the disk of each machine
    values["command"] = " ".join(words)
    return fill(Path(__file__).with_name("machine.sh").read_text(), values)


def _scratch(job: Job) -> str:
    """A folder on each machine, for its shell; short, since sockets are in it."""
    return f"/tmp/distdqn-$(id -un)/{hashlib.sha256(job.name.encode()).hexdigest()[:8]}"


def _room(nodes: Any) -> str:
    return f"--num-cpus={nodes.cpus} --num-gpus={nodes.gpus}"


def _kind(nodes: Any, number: int) -> dict[str, Any]:
    resources = {"CPU": nodes.cpus, **({"GPU": nodes.gpus} if nodes.gpus else {})}
    return {"resources": resources, "node_config": nodes.node_config, "min_workers": number, "max_workers": number}


def _here(path: Any) -> str:
    return str(Path(str(path)).expanduser().absolute())


def _on_head(job: Job, what: str) -> str:
    return f"bash ~/.distdqn/{job.name}/machine.sh {what}"


def _token(path: Path) -> None:
    """Makes the cluster's token, for this user's eyes alone, where there is none."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_hex(32))


def _run(command: list[str], then: str) -> None:
    """Runs a command of Ray before the user's eyes, since it takes minutes."""
    try:
        code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    except OSError as error:
        raise ConfigError(f"cluster=ray_up: ray cannot be run ({error.strerror})") from None
    if code:
        raise ConfigError(f"cluster=ray_up: ray {command[1]} left with {code}, what it said is above; {then}")
