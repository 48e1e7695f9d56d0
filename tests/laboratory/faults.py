"""Real runs, each disturbed once: whom, how and when. What is left of them is looked at from outside."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from distdqn import checkpoint
from distdqn.bench.measure import slope
from tests.runtime.helpers import ROOT, last, workers

COMPONENTS = {"actor": 1, "actors": 2, "shard": 1, "shards": 2, "learner": 1, "evaluator": 1}
"""Whom, and how many of them."""
WHENS = ("start", "filling", "learning", "saving", "evaluating", "ending")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP")
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
SOAK = ("evaluation.every_seconds=20", "evaluation.episodes=20", "log_every_seconds=2", "engine.timeout_s=60")
IN_FLIGHT = 32
"""Updates that the learner may have been asked for before it gave its last state."""
MARK = "DISTDQN_CELL"


@dataclass(frozen=True)
class Cell:
    """One run. `to` is "process" or "group"."""

    whom: str
    how: str
    when: str
    to: str = "process"

    def __str__(self) -> str:
        return f"{self.whom} {self.how} while {self.when}{' (group)' * (self.to == 'group')}"


@dataclass
class Found:
    """What was seen: exit codes in order, seconds until learning went on, and what is wrong, if anything."""

    codes: list[int] = field(default_factory=list)
    recovered: float | None = None
    accounts: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def cells(whom: Iterable[str] = ()) -> list[Cell]:
    """The matrix, or those of its rows."""
    found = [Cell(*c) for c in itertools.product(COMPONENTS, ("SIGKILL", "SIGSTOP"), WHENS)]
    found += [Cell("driver", *c) for c in itertools.product(SIGNALS, WHENS, ("process", "group"))]
    found += [Cell("raylet", "SIGKILL", when) for when in WHENS[1:]]
    return [c for c in found if not whom or c.whom in whom]


class Run:
    """A run of the command line, and all processes that come of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.mark = folder / "run", folder / "out", uuid.uuid4().hex

    def start(self, *arguments: str) -> None:
        """`distdqn ARGUMENTS`, first of a process group."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", MARK: self.mark}
        command = [sys.executable, "-m", "distdqn.cli", *arguments]
        with open(self.out, "ab") as log:
            pipes = {"stdout": log, "stderr": log}
            self.process = subprocess.Popen(command, **pipes, env=environment, cwd=ROOT, start_new_session=True)

    def wait_for(self, condition: Callable[[], Any], what: str, seconds: float = 90, every: float = 0.05) -> Any:
        """The first truthy value of `condition`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before: {what}")
            time.sleep(every)
        raise AssertionError(f"not within {seconds:.0f} s: {what}")

    def said(self, text: str) -> bool:
        """Whether it has said so."""
        return text in self.out.read_text(errors="replace")

    def updates(self) -> float:
        """Gradient steps so far."""
        return last(self.folder, "learner_updates")

    def figures(self) -> dict[str, float]:
        """Resident MiB of the driver and of all processes (shared memory counted in each), open files of the driver,
        processes, and MiB of shared memory in use on this machine."""
        driver, resident, number = psutil.Process(self.process.pid), 0, 0
        for process in [driver, *driver.children(recursive=True)]:
            with suppress(psutil.Error):
                resident += process.memory_info().rss
                number += 1
        mib = 1024**2
        return {
            "driver, MiB": driver.memory_info().rss / mib,
            "all, MiB": resident / mib,
            "driver's files": driver.num_fds(),
            "processes": number,
            "shared memory, MiB": psutil.disk_usage("/dev/shm").used / mib,
        }

    def left(self) -> list[str]:
        """Its processes that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.name())
            except psutil.Error:
                continue
        return found


def disturb(run: Run, cell: Cell) -> None:
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
    run.wait_for(moments[cell.when], cell.when, every=0.001 if cell.when == "saving" else 0.05)
    number = getattr(signal, cell.how)
    if cell.whom == "driver":
        send = os.killpg if cell.to == "group" else os.kill
        send(run.process.pid, number)
        if cell.how == "SIGSTOP":
            time.sleep(STOPPED_FOR)
            send(run.process.pid, signal.SIGCONT)
    elif cell.whom == "raylet":
        children = psutil.Process(run.process.pid).children(recursive=True)
        next(c for c in children if c.name() == "raylet").send_signal(number)
    else:
        kind, many = cell.whom.rstrip("s"), COMPONENTS[cell.whom]
        for victim in run.wait_for(lambda: workers(run.process, kind)[:many], f"{many} of {kind}"):
            victim.send_signal(number)


def go_on(run: Run, found: Found, before: float, seconds: float = 120) -> None:
    """Learning goes on; from when it was disturbed."""
    start = time.monotonic()
    run.wait_for(lambda: run.updates() > before + 100, "learning goes on", seconds)
    found.recovered = time.monotonic() - start


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
    run, found = Run(folder), Found()
    ends = cell.when == "ending"
    frames = 60_000 if ends else 10**9
    run.start("train", *CONFIG, f"budget.env_frames={frames}", f"run_dir={run.folder}")
    try:
        disturb(run, cell)
        before = run.updates()
        survives = cell.whom in COMPONENTS or cell.how == "SIGSTOP"
        if survives and not ends:
            go_on(run, found, before, 300 if cell.when == "start" else 120)  # a start is given time
            run.process.send_signal(signal.SIGTERM)
            leave(run, found, (3,))
        elif survives:
            leave(run, found, (0,))
        else:
            leave(run, found, (-9,) if (cell.whom, cell.how) == ("driver", "SIGKILL") else (1, 3))
            before = run.updates()
            run.start("resume", str(run.folder))
            if ends:
                leave(run, found, (0,), 150)
            else:
                go_on(run, found, before)
                run.process.send_signal(signal.SIGTERM)
                leave(run, found, (3,))
        look(run, found, cell)
    except (AssertionError, psutil.Error) as error:
        found.wrong.append(str(error))
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()
    return found


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
    if run.said("Traceback"):
        found.wrong.append("a traceback")
    end = time.monotonic() + LEAVES
    while (left := run.left()) and time.monotonic() < end:
        time.sleep(0.5)
    if left:
        found.wrong.append(f"left: {', '.join(sorted(set(left)))}")


def campaign(whom: list[str], number: int, seed: int, console: Console) -> dict[str, Any]:
    """Draws cells of the matrix and prints a line for each, then a table of what took how long."""
    matrix = cells(whom)
    order = np.random.default_rng(seed).permutation(len(matrix))[:number]
    results: dict[str, Found] = {}
    for k, i in enumerate(order):
        with tempfile.TemporaryDirectory(prefix="distdqn-cell-") as folder:
            cell, start = matrix[i], time.monotonic()
            found = results[str(cell)] = run_cell(cell, Path(folder))
            how = "[red]" + "; ".join(found.wrong) + "[/]" if found.wrong else "well"
            console.print(f"{k + 1:3} {cell}: codes {found.codes}, {how} ({time.monotonic() - start:.0f} s)")
            if found.wrong:
                console.print(
                    "\n".join(Path(folder, "out").read_text(errors="replace").splitlines()[-12:]), markup=False
                )
    show(results, console)
    return {name: vars(found) for name, found in results.items()}


def show(results: dict[str, Found], console: Console) -> None:
    """Medians of the time until learning went on, and how many cells are well."""
    table = Table("whom, how", "cells", "well", "learning again, median", "greatest", box=None)
    kinds: dict[str, list[Found]] = {}
    for name, found in results.items():
        kinds.setdefault(name.partition(" while")[0], []).append(found)
    for kind, of in sorted(kinds.items()):
        times = [f.recovered for f in of if f.recovered is not None]
        shown = (f"{np.median(times):.1f} s", f"{max(times):.1f} s") if times else ("", "")
        table.add_row(kind, str(len(of)), str(sum(not f.wrong for f in of)), *shown)
    console.print(table)


def soak(minutes: float, every: float, seed: int, console: Console) -> dict[str, Any]:
    """A run in which some component is killed every so many seconds: what grows, and what it scores."""
    rng, looks = np.random.default_rng(seed), list[dict[str, float]]()
    kills: dict[str, int] = dict.fromkeys(("actor", "shard", "learner", "evaluator"), 0)
    with tempfile.TemporaryDirectory(prefix="distdqn-soak-") as folder:
        run = Run(Path(folder))
        budget = ("budget.env_frames=null", f"budget.seconds={60 * minutes}")
        run.start("train", *CONFIG, *SOAK, *budget, f"run_dir={run.folder}")
        try:
            run.wait_for(lambda: run.updates() > 100, "learning")
            start = time.monotonic()
            while run.process.poll() is None and not run.said("final evaluation"):
                looks.append({"minute": (time.monotonic() - start) / 60, **run.figures()})
                time.sleep(every)
                kind = list(kills)[rng.integers(len(kills))]
                if victims := workers(run.process, kind):
                    victims[rng.integers(len(victims))].kill()
                    kills[kind] += 1
            code = run.process.wait(timeout=600)
        finally:
            run.process.kill()
        summary = json.loads((run.folder / "summary.json").read_text())
    rest = looks[len(looks) // 4 :]  # the replay is full by then
    grows = {n: slope([x["minute"] for x in rest], [x[n] for x in rest]) for n in rest[0] if n != "minute"}
    console.print(
        f"exit code {code}, score {summary['eval/return_mean']:.2f}, {summary['learner_updates']:.0f} updates"
    )
    console.print(f"killed {kills}, transitions {summary['transitions']}")
    table = Table("", "first", "last", "a minute", box=None)
    for name, growth in grows.items():
        table.add_row(name, f"{rest[0][name]:,.1f}", f"{rest[-1][name]:,.1f}", f"{growth:+.3f}")
    console.print(table)
    return {"code": code, "kills": kills, "growth": grows, "summary": summary, "looks": looks}
