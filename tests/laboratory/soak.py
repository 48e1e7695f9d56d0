"""A run that is disturbed all the time: what grows, and what it scores."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from distdqn.bench.measure import slope
from tests.laboratory.faults import CONFIG
from tests.laboratory.running import Run

SOAK = ("evaluation.every_seconds=20", "evaluation.episodes=20", "log_every_seconds=2", "engine.timeout_s=60")


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
                if victims := run.workers(kind):
                    victims[rng.integers(len(victims))].kill()
                    kills[kind] += 1
            code = run.process.wait(timeout=600)
        finally:
            run.end()
        if code:
            console.print("\n".join(run.out.read_text(errors="replace").splitlines()[-20:]), markup=False)
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
