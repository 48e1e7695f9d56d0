"""A run as a job of a Ray cluster that is there, submitted with `ray job submit`."""

import importlib.util
import json
import re
import shlex
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

from distdqn.config import ConfigError
from distdqn.config.ray_sites import RayJobConfig
from distdqn.launch.job import Job, Typed, kept, key_of, prepare, said_by, tool
from distdqn.runtime.joining import token

SECONDS = 10.0
NEEDED = ("aiohttp", "requests")
"""What Ray's client imports, of `ray[default]`."""


def send(site: RayJobConfig, run: Typed, dry_run: bool) -> None:
    """Submits the run, or shows how. Raises `ConfigError` where the cluster refuses it."""
    unauthenticated = run.config.engine.unauthenticated
    if site.cpus is None and "actors.count" not in map(key_of, run.texts):
        site = replace(site, cpus=_cpus(site, unauthenticated))
    job = prepare(run, site.cpus or 0, site.gpus, None, site.folder)
    if dry_run:
        print(script(site, job, "ray"), end="")
        return
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"cluster=ray_job: needs {missing[0]} here: pip install 'ray[default]'")
    _cpus(site, unauthenticated)  # else Ray's client tries for half a minute where nobody answers
    ray = tool("ray", "ray_job")
    with kept(job.run_dir, {"submit.sh": script(site, job, ray)}) as folder:
        found = re.search(r"Job '([^']+)' submitted", said_by(["sh", str(folder / "submit.sh")], "ray_job"))
        if found is None:
            raise ConfigError("cluster=ray_job: ray says nothing of the job that it was given")
    about = f"--address {site.address} {found[1]}"
    print(f"job {found[1]}: {run.config.name}, {job.config.actors.places} actors at {site.address}")
    print(f"watch  ray job logs --follow {about}\nstop   ray job stop {about}    (saves; submitted again it goes on)")
    print(f"again  sh {shlex.quote(str(folder / 'submit.sh'))}")
    print(f"folder {_there(site, job)}")


def script(site: RayJobConfig, job: Job, ray: str) -> str:
    """The text of the submission; each time it is run the job has a name of its own."""
    submit = [ray, "job", "submit", f"--address={site.address}", "--no-wait"]
    if site.runtime_env:
        submit.append(f"--runtime-env-json={json.dumps(site.runtime_env)}")
    command = shlex.join(job.train(site.python, _there(site, job), "auto"))
    return f"""#!/bin/sh
# Written by `distdqn launch`; run again, it goes on with the run.
exec {shlex.join(submit)} --submission-id="{job.name}-$(date +%H%M%S)" -- {command}
"""


def _there(site: RayJobConfig, job: Job) -> str:
    return job.path if site.folder is None else f"{site.folder.rstrip('/')}/{job.path}"


def _cpus(site: RayJobConfig, unauthenticated: bool) -> int:
    """Cores of the cluster, which has to answer. Nobody is told our token who does not ask for one.

    Raises:
        ConfigError: nobody answers, no token is asked for, or the one here is not the cluster's.
    """
    about = f"cluster.address={site.address}"
    url = f"{str(site.address).rstrip('/')}/api/v0/nodes?limit=10000"  # 100 where nothing is said
    try:
        status, answer = _get(url, None)
        if status == 200 and not unauthenticated:
            why = f"the cluster at {site.address} asks for no token, so that whoever reaches it can run code in it"
            raise ConfigError(f"engine.unauthenticated=false: {why}: start it with RAY_AUTH_MODE=token, or say true")
        if status in (401, 403):
            if (found := token()) is None:
                raise ConfigError(f"{about}: asks for a token, and there is none here: put it into ~/.ray/auth_token")
            status, answer = _get(url, found[1])
            if status in (401, 403):
                raise ConfigError(f"{about}: the token in {found[0]} is not that cluster's")
        if status != 200:
            raise ConfigError(f"{about}: answers with {status}, it is no dashboard of Ray")
        nodes = answer["data"]["result"]["result"]
        return int(sum(node["resources_total"].get("CPU", 0) for node in nodes if node["state"] == "ALIVE"))
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{about}: nobody answers there ({getattr(error, 'reason', error)})") from None
    except (KeyError, TypeError):
        raise ConfigError(f"{about}: does not say what it has; say cluster.cpus") from None


def _get(url: str, secret: str | None) -> tuple[int, Any]:
    """Status and answer of a question; `OSError` where nobody answers, `ValueError` where the answer is no JSON."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"} if secret else {})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None
