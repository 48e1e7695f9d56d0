"""Real runs, each disturbed once: whom, how and when. What is left of them is looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from distdqn import checkpoint
from tests.laboratory.cells import COMPONENTS, FULL, KINDS, MACHINES, Cell
from tests.laboratory.nodes import Nodes
from tests.laboratory.running import Run
from tests.record.wandb_server import Server, server
from tests.runtime.helpers import last

SAVES, PATIENCE = 2.0, 6.0
STOPPED_FOR = 10.0
"""Seconds for which a driver is stopped: longer than it waits for anybody."""
LEAVES = 100.0
"""Seconds until everything of a run is gone: two processes of Ray outlive a killed driver by about a minute."""
CONFIG = (
    "experiment=catch",
    "engine=ray",
    "actors.count=2",
    "actors.envs_per_actor=8",
    "replay.shards=2",
    "replay.min_size=6000",
    "replay.capacity=20000",
    f"actors.timeout_s={PATIENCE}",
    f"engine.timeout_s={PATIENCE}",
    "log_every_seconds=0.3",
    f"checkpoint.every_seconds={SAVES}",
    "screen=lines",
    "tensorboard=false",
    "evaluation.every_seconds=1",
    "evaluation.episodes=100",
    "evaluation.final_episodes=400",
    "evaluation.video=false",
)
ORDERS = {"exception": signal.SIGUSR1, "hang": signal.SIGUSR2, "memory": signal.SIGXCPU}
"""What `hooks/sitecustomize.py` does at which signal."""
LIVES = 12
"""So many lives of a component end at once in a crash loop: more than a run puts up with."""
HOG, ITSELF = 4096, 2500
"""MiB that a component takes in excess, and that a whole run takes."""
IN_FLIGHT = 32
"""Updates that the learner may have been asked for before it gave its last state."""


@dataclass
class Found:
    """What was seen: exit codes in order, seconds until learning went on, and what is wrong, if anything."""

    codes: list[int] = field(default_factory=list)
    recovered: float | None = None
    accounts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Around:
    """What a run has around it."""

    nodes: Nodes | None = None
    wandb: Server | None = None


def disturb(run: Run, cell: Cell, around_it: Around) -> None:
    """Waits for the moment, and does it."""
    checkpoints = run.folder / "checkpoints"
    moments: dict[str, Callable[[], Any]] = {
        "start": lambda: run.said("starting"),
        "filling": lambda: run.said("running") and last(run.folder, "env_steps") > 0,
        "learning": lambda: run.updates() > 100,
        "saving": lambda: run.updates() > 100 and any(checkpoints.glob(".tmp-*")),
        "evaluating": lambda: run.updates() > 100 and run.said("evaluation:"),
        "ending": lambda: run.said("final evaluation"),
    }
    run.wait_for(moments[cell.when], cell.when, 300, every=0.001 if cell.when == "saving" else 0.05)
    if cell.how == "crash loop":
        crash(run, cell.whom)
    elif cell.whom == "disk":
        fill(run, cell)
    elif around_it.wandb is not None:
        around_it.wandb.state = cell.how
    elif cell.whom == "driver":
        number, send = signal_of(cell.how), os.killpg if cell.to == "group" else os.kill
        send(run.process.pid, number)
        if number == signal.SIGSTOP:
            time.sleep(STOPPED_FOR)
            send(run.process.pid, signal.SIGCONT)
    else:
        for victim in victims(run, cell, around_it.nodes):
            with suppress(psutil.NoSuchProcess):
                victim.send_signal(signal_of(cell.how))


def signal_of(how: str) -> int:
    """What is sent."""
    number: int = ORDERS.get(how) or getattr(signal, how)
    return number


def victims(run: Run, cell: Cell, nodes: Nodes | None) -> list[psutil.Process]:
    """Whom it is about."""
    if cell.whom == "raylet":
        return [c for c in psutil.Process(run.process.pid).children(recursive=True) if c.name() == "raylet"]
    if cell.whom == "head":
        assert nodes is not None
        return nodes.of(nodes.head)
    if cell.whom in MACHINES:
        assert nodes is not None
        return nodes.of_learner(other=cell.whom == "node")
    kind, many = cell.whom.rstrip("s"), COMPONENTS[cell.whom]
    found: list[psutil.Process] = run.wait_for(lambda: run.workers(kind)[:many], f"{many} of {kind}")
    return found


def crash(run: Run, kind: str) -> None:
    """Kills each life of the component as soon as it is seen, until the run gives up or many have been."""
    first, *others = run.wait_for(lambda: run.workers(kind), kind)
    killed, end = set[psutil.Process](), time.monotonic() + 60
    while len(killed) < LIVES and run.process.poll() is None and time.monotonic() < end:
        for process in {first, *run.workers(kind)}.difference(others, killed):
            with suppress(psutil.NoSuchProcess):
                process.kill()
            killed.add(process)
        time.sleep(0.01)


def fill(run: Run, cell: Cell) -> None:
    """The disk is full: until the run has ended, or for some saves."""
    for process in [psutil.Process(run.process.pid), *run.workers("shard")]:
        process.send_signal(signal.SIGXFSZ)
    if cell.when == "ending":
        return
    if cell.how == "all files":
        run.workers("actor")[0].send_signal(ORDERS["exception"])  # so that a traceback is written
    time.sleep(4 * SAVES)
    for process in [psutil.Process(run.process.pid), *run.workers("shard")]:
        process.send_signal(signal.SIGXFSZ)


def go_on(run: Run, found: Found, struck: float, before: float, replaced: bool, seconds: float) -> None:
    """Learning goes on, and with `replaced` somebody new is there; `struck` is when it was disturbed."""
    run.wait_for(lambda: run.updates() > before + 100, "learning goes on", seconds)
    found.recovered = time.monotonic() - struck
    if replaced:
        run.wait_for(lambda: restarts(run) > 0, "somebody is replaced", seconds)


def restarts(run: Run) -> float:
    """How many components were started anew."""
    return sum(last(run.folder, f"faults/{kind}_restarts") for kind in KINDS)


def leave(run: Run, found: Found, expected: tuple[int, ...], seconds: float = 90) -> None:
    """It ends by itself, with one of these codes."""
    try:
        found.codes.append(run.process.wait(timeout=seconds))
    except subprocess.TimeoutExpired:
        found.wrong.append(f"it did not leave within {seconds:.0f} s")
        return
    if found.codes[-1] not in expected:
        found.wrong.append(f"exit code {found.codes[-1]}")


def run_cell(cell: Cell, folder: Path) -> Found:
    """Does it, and looks."""
    run, found = Run(folder, around(cell)), Found()
    with ExitStack() as stack:
        stack.callback(run.end)
        around_it = Around()
        if cell.whom in MACHINES:
            around_it.nodes = stack.enter_context(closing(Nodes(run, folder)))
        if cell.whom == "W&B":
            around_it.wandb = stack.enter_context(server())
            run.environment |= around_it.wandb.environment
        try:
            live(run, cell, around_it, found)
            if around_it.nodes:
                around_it.nodes.close()
            look(run, found, cell)
        except (AssertionError, psutil.Error) as error:
            found.wrong.append(str(error))
    return found


def live(run: Run, cell: Cell, around_it: Around, found: Found) -> None:
    """From the start of the run to its end."""
    ends, nodes = cell.when == "ending", around_it.nodes
    where = (f"engine.address={nodes.address}",) if nodes else ()
    files = ("tensorboard=true", "evaluation.video=true") if cell.whom == "disk" else ()
    budget = f"budget.env_frames={60_000 if ends else 10**9}"
    run.start("train", *CONFIG, *files, *where, budget, f"run_dir={run.folder}")
    disturb(run, cell, around_it)
    struck, before, lives = time.monotonic(), run.updates(), cell.survived
    if lives is None:
        lives = survives(run, before, ends)
    if not lives:
        leave(run, found, cell.codes, 150 if cell.whom == "head" else 90)
        struck, before = time.monotonic(), run.updates()
        run.start("resume", str(run.folder), *(("engine.address=null",) if nodes else ()))
    if ends:
        leave(run, found, (0,), 150)
    else:
        patience = 480 if cell.when == "start" else 240  # a start is given time
        go_on(run, found, struck, before, bool(lives) and cell.whom in (*COMPONENTS, *MACHINES), patience)
        run.process.send_signal(signal.SIGTERM)
        leave(run, found, (3,), 30 if cell.whom == "W&B" else 90)


def survives(run: Run, before: float, ends: bool) -> bool:
    """Whether the run goes on; one that gives up does so within a while."""
    end = time.monotonic() + 90
    while run.process.poll() is None and time.monotonic() < end and (ends or run.updates() <= before + 100):
        time.sleep(0.1)
    return run.process.poll() in (None, 0)


def around(cell: Cell) -> dict[str, str]:
    """What the run's processes find in their environment."""
    if cell.whom == "disk":
        return {"DISTDQN_FULL": FULL[cell.how]}
    return {"RAY_memory_usage_threshold": hog_threshold(), "DISTDQN_HOG": str(HOG)} if cell.how == "memory" else {}


def hog_threshold() -> str:
    """The share of this machine's memory from which on Ray is to kill somebody: what is used, a run, and half a hog."""
    memory = psutil.virtual_memory()
    return f"{1 - (memory.available - (ITSELF + HOG / 2) * 1024**2) / memory.total:.3f}"


def look(run: Run, found: Found, cell: Cell) -> None:
    """At the accounts, the newest checkpoint, what is said, and what is left."""
    summary = json.loads((run.folder / "summary.json").read_text())
    found.accounts = accounts = summary["transitions"]
    on_the_way = accounts["emitted"] - accounts["stored"] - accounts["dropped"]
    if not 0 <= on_the_way <= 2 * 2 * 8 * 64:
        found.wrong.append(f"{on_the_way} transitions on the way at the end")
    if accounts["lost"]:
        found.wrong.append(f"{accounts['lost']} transitions lost")
    newest = checkpoint.newest_valid(run.folder / "checkpoints")
    if newest is None or newest[2]:
        found.wrong.append("no whole checkpoint" if newest is None else f"damaged: {newest[2]}")
    elif found.codes[-1] in (0, 3):
        missing = summary["learner_updates"] - newest[1]["counters"]["progress"]["count"]["learner_updates"]
        if missing > IN_FLIGHT:
            found.wrong.append(f"{missing:.0f} updates are not in the last checkpoint")
    if run.said("Traceback") and (cell.whom, cell.how) != ("driver", "exception"):
        found.wrong.append("a traceback")
    end = time.monotonic() + LEAVES
    while (left := run.left()) and time.monotonic() < end:
        time.sleep(0.5)
    if left:
        found.wrong.append(f"left: {', '.join(left)}")
