"""All that wants a GPU, in one go: tests, throughput, and learning runs; each part goes on if another fails."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distdqn.config.compose import compose
from distdqn.envs.registry import make_env
from distdqn.machine import inspect
from distdqn.scale.measured import time_to
from tests.runtime.helpers import ROOT

PONG_SCORE = 18.0
COMPILED = ("pong", "dqn_2015")
OTHERS = ("rainbow", "c51", "munchausen_iqn", "drq", "bbf", "btr", "autoencoder", "drqn", "r2d2")


@dataclass
class Part:
    """One part: what it found, a figure a line, and how long it took."""

    name: str
    seconds: float = 0.0
    failed: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Check:
    """The parts, one after the other, in at most `seconds`.

    Args:
        folder: where logs, figures and runs go.
        overrides: of all runs and benchmarks.
    """

    def __init__(self, folder: Path, seconds: float, overrides: Sequence[str]) -> None:
        self.folder, self.keys = folder, ["track=disabled", "screen=lines", *overrides]
        self.seconds, self._start = seconds, time.monotonic()
        self.parts: list[Part] = []

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self._start)

    def run(self, console: Console) -> dict[str, Any]:
        """All parts; gives their figures."""
        parts: list[tuple[str, float, Callable[[float], dict[str, Any]]]] = [
            ("doctor", 0.05, self.doctor),
            ("CUDA tests", 0.13, self.tests),
            ("emulators", 0.05, self.emulators),
            ("updates", 0.10, lambda s: self.updates(s, COMPILED)),
            ("updates, not compiled", 0.12, lambda s: self.updates(s, OTHERS, "learner.compile=off")),
            ("bench, batch of 512", 0.10, lambda s: self.bench(s, "pong", 512)),
            ("bench, batch of 32", 0.10, lambda s: self.bench(s, "dqn_2015", 32)),
            ("Pong", 0.20, self.pong),
            ("Breakout as Ape-X", 1.0, self.breakout),
        ]
        for name, share, do in parts:
            allowed = min(share * self.seconds, self.left - 15)
            part, start = Part(name), time.monotonic()
            self.parts.append(part)
            console.print(f"{name}: at most {max(allowed, 0):.0f} s", highlight=False)
            try:
                if allowed < 5:
                    raise TimeoutError("no time was left for it")
                part.figures = do(allowed)
            except Exception as error:  # the others are still worth their time
                part.failed = " ".join(str(error).split()) or type(error).__name__
            part.seconds = time.monotonic() - start
            self._write()
        self._show(console)
        return self._write()

    def _command(self, name: str, seconds: float, *arguments: object) -> str:
        """What a command says; its output is kept in NAME.log. Raises `RuntimeError` where it fails, `TimeoutError`
        where it had not ended after so many seconds."""
        log, code = self.folder / f"{name}.log", None
        with open(log, "wb") as out:
            process = subprocess.Popen([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=out, stderr=out)
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.terminate()  # a run saves what it has
                try:
                    code = process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                if code not in (0, 3):
                    raise TimeoutError(f"it was given {seconds:.0f} s ({log.name})") from None
        text = log.read_text(errors="replace")
        if code not in (0, 3):
            lines = text.strip().splitlines() or [""]
            raise RuntimeError(f"ended with {code}: {lines[-1][:200]} ({log.name})")
        return text

    def _cli(self, name: str, seconds: float, *arguments: object) -> str:
        return self._command(name, seconds, "-P", "-m", "distdqn.cli", *arguments)

    def doctor(self, seconds: float) -> dict[str, Any]:
        """What the machine has."""
        self._cli("doctor", seconds, "doctor")
        return {"cores": inspect().cores, "GPUs": inspect().gpus}

    def tests(self, seconds: float) -> dict[str, Any]:
        """Those that are skipped without a GPU."""
        said = self._command("tests", seconds, "-P", "-m", "pytest", "-q", "-rfE", "tests/learn/test_cuda.py")
        return {"pytest": said.strip().splitlines()[-1]}

    def emulators(self, seconds: float) -> dict[str, Any]:
        """Frames/s of 1, 2, 4 ... processes with an emulator thread each: whether cores are whole ones."""
        found, cores = {}, inspect().cores
        counts = sorted({*(2**k for k in range(cores.bit_length()) if 2**k <= cores), cores})
        each = max(0.5, seconds / len(counts) - 2)
        for count in counts:
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                found[f"{count} processes"] = f"{sum(pool.map(_emulate, [each] * count)):,.0f} frames/s"
        return found

    def updates(self, seconds: float, names: Sequence[str], *keys: str) -> dict[str, Any]:
        """The learner alone, agent by agent: captured and step by step. Those that there was time for."""
        log = "-".join(["updates", *keys]).replace("=", "-")
        arguments = ["-P", "-m", "tests.laboratory.updates", min(1.0, seconds / 60), *names, *self.keys, *keys]
        with suppress(TimeoutError):
            self._command(log, seconds, *arguments)
        said = (self.folder / f"{log}.log").read_text().splitlines()
        lines = [json.loads(line) for line in said if line.startswith("{")]
        return {line.pop("experiment"): ", ".join(f"{k} {v}" for k, v in line.items()) for line in lines}

    def bench(self, seconds: float, experiment: str, batch: int) -> dict[str, Any]:
        """The stages and the whole system with batches of so many."""
        out = self.folder / f"bench-{batch}.json"
        keys = [f"experiment={experiment}", f"learner.batch_size={batch}", *self.keys]
        self._cli(f"bench-{batch}", seconds, "bench", "--seconds", max(0.5, seconds / 25), "--out", out, *keys)
        figures = json.loads(out.read_text())
        whole, learn = figures["whole"], figures["stages"]["learn"]["wall"]
        return {
            "updates/s, the learner alone": f"{1 / learn / batch:,.0f}",
            "frames/s": f"{whole['steps_per_s'] * figures['frame_skip']:,.0f}",
            "updates/s": f"{whole['updates_per_s']:,.1f}",
            "learner idle": f"{whole['learner_idle']:.0%}",
            "of the limit": f"{figures['fraction_of_limit']:.0%}",
        }

    def _train(self, name: str, seconds: float, *keys: str) -> dict[str, Any]:
        run = self.folder / "runs" / name
        limits = [f"budget.seconds={max(5, seconds - 40):.0f}", "evaluation.final_episodes=3", f"run_dir={run}"]
        self._cli(name, seconds, "train", *keys, *self.keys, *limits)
        summary = json.loads((run / "summary.json").read_text())
        shown = {key: summary.get(key) for key in ("env_frames", "learner_updates", "eval/best_return", "time_s")}
        reached = time_to(run, PONG_SCORE)
        return shown | ({f"seconds to {PONG_SCORE:g}": reached} if name == "pong" else {})

    def pong(self, seconds: float) -> dict[str, Any]:
        """The first experiment, and when it plays well."""
        return self._train("pong", seconds, "experiment=pong", "evaluation.every_seconds=10")

    def breakout(self, seconds: float) -> dict[str, Any]:
        """Ape-X's settings on another game, for the time that is left."""
        return self._train("breakout", seconds, "experiment=apex", "env.game=breakout", "evaluation.every_seconds=30")

    def _write(self) -> dict[str, Any]:
        figures = {"keys": self.keys, "parts": [vars(part) for part in self.parts]}
        (self.folder / "gpu_check.json").write_text(json.dumps(figures, indent=1, default=str) + "\n")
        return figures

    def _show(self, console: Console) -> None:
        grid = Table("part", "seconds", "found", box=None, header_style="bold", pad_edge=False)
        for part in self.parts:
            lines = [f"{name}: {value}" for name, value in part.figures.items()]
            found = f"[red]{part.failed}[/red]" if part.failed else "\n".join(lines)
            grid.add_row(part.name, f"{part.seconds:.0f}", found)
        console.print(grid)
        runs = [str(run.parent) for run in sorted((self.folder / "runs").glob("*/metrics.jsonl"))]
        if runs:
            from distdqn.report.plot import PlotError, plot_runs

            try:
                plot_runs([Path(run) for run in runs], self.folder / "curves.png")
            except PlotError as error:
                console.print(str(error), highlight=False)
        console.print(f"{self.folder}: gpu_check.json, curves.png, bench-*.json, logs and runs", highlight=False)


def _emulate(seconds: float) -> float:
    """Frames/s of eight slots of Pong, played at random by one thread."""
    import numpy as np

    config, rng = compose(["experiment=pong"]).env, np.random.default_rng(0)
    env = make_env(config, 8, 1, 0)
    env.reset()
    frames, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        env.step(rng.integers(env.spec.num_actions, size=8))
        frames += 8 * env.spec.frame_skip
    env.close()
    return frames / passed
