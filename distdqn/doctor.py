"""What this machine has, and what `distdqn train` would run on it."""

import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.machine import Machine, cpu_has, disk_free, inspect
from distdqn.runtime.preflight import DISK_NEEDED, bytes_per_transition, check
from distdqn.types import EnvSpec

GIB = 1024**3
PACKAGES = ("torch", "ray", "gymnasium", "ale-py", "numpy", "hydra-core", "wandb")
EXTENSIONS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 bfloat16", "amx_bf16": "AMX bfloat16"}
EXTENSIONS |= {"asimd": "NEON", "sve": "SVE", "bf16": "bfloat16"}
"""Flags and names of the vector extensions that matter to a network on the CPU."""
Verdict = Literal["", "ok", "note", "problem"]
_MARKS = {"": "", "ok": "[green]ok[/]", "note": "[yellow]note[/]", "problem": "[red]problem[/]"}


@dataclass(frozen=True)
class Finding:
    """One row: what was looked at, what was found, and whether it is well. `remedy` says what to do."""

    name: str
    found: str
    verdict: Verdict = ""
    remedy: str = ""


def doctor(overrides: tuple[str, ...] = (), console: Console | None = None, start_ray: bool = True) -> int:
    """Prints what this machine has, what is wrong with it, and what `distdqn train` would run. Returns 0 if the run can
    start, else 1.

    Args:
        overrides: of the run that is asked for; none is Pong.
        start_ray: also starts Ray once and ends it, which takes seconds.
    """
    console = console or Console(highlight=False)
    machine = inspect()
    findings = [*_hardware(machine), *_software()]
    if start_ray:
        with console.status("starting Ray ..."):
            findings.append(_ray(machine))
    _show(console, "this machine", findings)
    plan = _plan(overrides, machine)
    _show(console, " ".join(["distdqn train", *overrides]), plan)
    bad = [f.name for f in (*findings, *plan) if f.verdict == "problem"]
    console.print(f"Training cannot start: see {', '.join(bad)}." if bad else "Training can start.")
    return 1 if bad else 0


def _show(console: Console, title: str, findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True)
    for f in findings:
        table.add_row(f.name, escape("\n  ".join(filter(None, [f.found, f.remedy]))), _MARKS[f.verdict])
    console.print(escape(title), style="bold")
    console.print(table, "")


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 1024**2:.0f} MiB"


def _hardware(machine: Machine) -> list[Finding]:
    extensions = ", ".join(name for flag, name in EXTENSIONS.items() if cpu_has(flag))
    return [
        Finding("cores", f"{machine.cores} usable of {os.cpu_count()}", "ok"),
        Finding("CPU extensions", extensions or "none of those that PyTorch is faster with"),
        Finding("memory", f"{_gib(machine.memory)}, {_gib(machine.memory_free)} free", "ok"),
        _shared_memory(machine),
        _disk(),
        _gpu(machine),
    ]


def _disk() -> Finding:
    free = disk_free(Path.cwd())
    found = f"{_gib(free)} free in {Path.cwd()}"
    if free >= DISK_NEEDED:
        return Finding("disk", found, "ok")
    return Finding("disk", found, "problem", f"a run needs {_gib(DISK_NEEDED)}: free some, or choose another run_dir")


def _shared_memory(machine: Machine) -> Finding:
    try:
        total = shutil.disk_usage("/dev/shm").total
    except OSError:
        return Finding("shared memory", "there is no /dev/shm", "problem", "Ray keeps its objects there: mount one")
    found = f"{_gib(total)} in /dev/shm, {_gib(machine.shared_memory_free)} free"
    if machine.shared_memory_free < 256 * 1024**2:
        return Finding("shared memory", found, "problem", "give the container more, as in docker run --shm-size=2g")
    return Finding("shared memory", found, "ok")


def _gpu(machine: Machine) -> Finding:
    import torch

    if not machine.gpus:
        return Finding("GPU", "none: the learner runs on the CPU")
    if not torch.cuda.is_available():
        found = f"{machine.gpus}, but this PyTorch ({torch.__version__}) cannot use it"
        remedy = "install a PyTorch for this driver's CUDA, or train with learner.device=cpu"
        return Finding("GPU", found, "problem", remedy)
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    memory = torch.cuda.get_device_properties(0).total_memory
    bfloat16 = "yes" if torch.cuda.is_bf16_supported() else "no"
    return Finding("GPU", f"{names}, {_gib(memory)}, bfloat16 {bfloat16}", "ok")


def _software() -> list[Finding]:
    import torch

    from distdqn.envs.atari import games
    from distdqn.record.wandb import logged_in

    try:
        versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    except PackageNotFoundError as error:
        return [Finding("software", f"{error.name} is not installed", "problem", "pip install -e .")]
    tracked = "yes: runs are tracked online, track=disabled to leave it out"
    return [
        Finding("software", f"Python {platform.python_version()}, {versions}", "ok"),
        Finding("PyTorch threads", f"{torch.get_num_threads()}; learner.threads and actors.threads set a run's"),
        Finding("ROMs", f"{len(games())} Atari games", "ok"),
        Finding("W&B login", tracked if logged_in() else "no: runs are not tracked; wandb login, or track=offline"),
    ]


def _ray(machine: Machine) -> Finding:
    """Starts a Ray of this process's own, calls a component in it, and ends it."""
    try:
        from distdqn.runtime.engine import Needs
        from distdqn.runtime.ray import RayEngine

        engine = RayEngine(None, machine.cores, 0, 128 * 1024**2)
        try:
            pid = engine.pid(engine.start("probe", Needs(), object))
        finally:
            engine.close()
    except Exception as error:
        line = next((x.strip() for x in reversed(str(error).splitlines()) if x.strip()), type(error).__name__)
        remedy = "see /tmp/ray/session_latest/logs, or train in one process with engine=local"
        return Finding("Ray", f"does not start: {line}", "problem", remedy)
    return Finding("Ray", "starts, and answers from a process of its own", "ok" if pid != os.getpid() else "problem")


def _plan(overrides: tuple[str, ...], machine: Machine) -> list[Finding]:
    try:
        config = compose(overrides)
        spec = check_env(config.env)
    except ConfigError as error:
        return [Finding("configuration", str(error), "problem")]
    checks = Finding("checks", "this machine holds it", "ok")
    try:
        check(config, spec, machine)
    except ConfigError as error:
        checks = Finding("checks", "", "problem", str(error))
    return [*_described(config, spec, machine), checks]


def _described(config: RunConfig, spec: EnvSpec, machine: Machine) -> list[Finding]:
    c = config
    shape = " x ".join(str(n) for n in spec.observation_shape)
    each = bytes_per_transition(c, spec)
    gpu = c.learner.device.startswith("cuda") or (c.learner.device == "auto" and machine.gpus > 0)
    budget = {"frames": c.budget.env_frames, "s": c.budget.seconds, "updates": c.budget.updates}
    shards = f"{c.replay.shards} shard{'s' * (c.replay.shards > 1)}"
    held = f"{c.replay.capacity:,} transitions in {shards}: {_gib(each * c.replay.capacity)} when full"
    where = f"{c.agent.network.torso.kind} on {'the GPU' if gpu else 'the CPU'}"
    if gpu:
        from distdqn.learn.program import may_capture  # where there is no GPU, PyTorch is not waited for

        where += ", updates captured" if may_capture(c.agent, c.learner, gpu) else ", updates step by step"
    pace = f"batch {c.learner.batch_size}, {c.learner.samples_per_insert:g} samples per insert"
    return [
        Finding("experiment", f"{c.name}: {c.note}" if c.note else c.name),
        Finding("environment", f"{spec.name}, observations {shape}, {spec.num_actions} actions"),
        Finding("engine", c.engine.kind + (f" at {c.engine.address}" if c.engine.address else "")),
        _actors(c, machine),
        Finding("replay", f"{c.replay.kind}, {held}"),
        Finding("learner", f"{where}, {pace}"),
        Finding("budget", ", ".join(f"{value:,} {unit}" for unit, value in budget.items() if value is not None)),
        _run_dir(c),
    ]


def _actors(config: RunConfig, machine: Machine) -> Finding:
    found = f"{config.actors.places} x {config.actors.envs_per_actor} environments"
    wanted = config.actors.places * config.actors.threads + config.learner.threads
    if config.engine.kind == "local" or config.engine.address or wanted <= machine.cores + 1:
        return Finding("actors", found)
    crowd = f"they and the learner want {wanted} cores, {machine.cores} are usable"
    return Finding("actors", found, "note", f"{crowd}: they take turns, which is slower but not wrong")


def _run_dir(config: RunConfig) -> Finding:
    path = Path(config.run_dir).absolute()
    parent = next(p for p in (path, *path.parents) if p.is_dir())
    try:
        with tempfile.TemporaryFile(dir=parent):
            return Finding("run_dir", str(path))
    except OSError as error:
        return Finding("run_dir", str(path), "problem", f"{parent}: {error.strerror}; choose another run_dir")
