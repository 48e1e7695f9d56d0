"""The door `distdqn scale` without `--simulate`: real runs on real machines, or those that are there already."""

import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from distdqn.config.scale import node_counts
from distdqn.config.stored import as_typed, load_config
from distdqn.record.console import make_console
from distdqn.report.results import runs_in
from distdqn.runtime.run import FAILED, STOPPED
from distdqn.scale import table
from distdqn.scale.experiment import AGAIN, Experiment, Method, Trial, TrialFailed
from distdqn.scale.main import plain, software
from distdqn.scale.measured import measured, median, time_to


def run(overrides: list[str], method: Method, out: Path | None, plot: Path | None) -> int:
    """Runs the config that `overrides` compose on the numbers of machines that nodes=1,2,4 names, and prints a table.
    Its figures and a picture are in the config's `run_dir` beside the runs, and in `out` and `plot`, too. Gives the
    exit code. Raises `ConfigError`: a bad key or value, one line that names it."""
    counts, texts = node_counts(overrides)
    console = make_console()
    with console.status("asking the cluster"):
        experiment = Experiment(texts, counts, method)
    trials = list[Trial]()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the run at hand must not outlive us
    try:
        for trial in experiment.run(lambda line: console.print(line, highlight=False)):
            trials.append(trial)
            console.print(f"    {trial.outcome.frames_per_s:,.0f} frames/s", highlight=False)
    except TrialFailed as error:
        print(f"distdqn: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"distdqn: stopped; the same command with run_dir={experiment.folder} goes on", file=sys.stderr)
        return STOPPED
    config = experiment.config
    title = f"{config.name}, {'strong' if method.strong else 'weak'} scaling"
    figures = {"config": as_typed(config), "method": asdict(method)}
    folder = experiment.folder
    _tell(title, trials, figures, [folder / "scale.json", out], [folder / "scale.png", plot], console)
    console.print(f"{folder}: its runs, scale.json and scale.png", highlight=False)
    return 0


def compare(folders: Sequence[Path], method: Method, out: Path | None, plot: Path | None) -> int:
    """Prints the same of runs that are there already, such as those of a sweep over jobs of a cluster: all but their
    first `warm_up` seconds of learning. Raises `ConfigError`: what is no run, or one too short."""
    trials = list[Trial]()
    for path in runs_in(folders):
        outcome = measured(path, method.warm_up, load_config(path).engine.nodes)
        reached = None if method.score is None else time_to(path, method.score)
        label = AGAIN if path.name.endswith(f"-{AGAIN}") else str(path)
        trials.append(Trial(outcome.nodes, label, outcome, reached))
    trials.sort(key=lambda trial: trial.nodes)
    strong = len({trial.outcome.actors for trial in trials}) == 1
    title = f"{len(trials)} runs, {'strong' if strong else 'weak'} scaling"
    figures = {"runs": [trial.label for trial in trials], "warm_up": method.warm_up}
    _tell(title, trials, figures, [out], [plot], make_console())
    return 0


def _tell(
    title: str,
    trials: Sequence[Trial],
    figures: dict[str, Any],
    outs: Sequence[Path | None],
    plots: Sequence[Path | None],
    console: Console,
) -> None:
    first = [trial for trial in trials if trial.label != AGAIN]
    counts = sorted({trial.nodes for trial in first})
    by_count = {n: [trial for trial in first if trial.nodes == n] for n in counts}
    outcomes = [median([trial.outcome for trial in by_count[n]]) for n in counts]
    scores = {n: sorted(t.to_score for t in of_one if t.to_score is not None) for n, of_one in by_count.items()}
    to_score = {n: f"{found[len(found) // 2]:,.0f} s" for n, found in scores.items() if found}
    table.show(f"distdqn scale: {title}", outcomes, console, to_score)
    spread = {n: _spread([t.outcome.frames_per_s for t in of_one]) for n, of_one in by_count.items()}
    if repeated := [f"{n}: {share:.0%}" for n, share in spread.items() if len(by_count[n]) > 1]:
        console.print(f"Medians; runs of one number of nodes lie apart by {', '.join(repeated)}.", highlight=False)
    for trial in trials:
        if trial.label == AGAIN:
            share = trial.outcome.frames_per_s / next(o.frames_per_s for o in outcomes if o.nodes == trial.nodes)
            console.print(f"{trial.nodes} once more at the end: {share:.0%} of what it was.", highlight=False)
    runs = [{"nodes": t.nodes, "label": t.label, "to_score_s": t.to_score, **plain(t.outcome)} for t in trials]
    text = json.dumps(
        {
            "kind": f"measured, {title}",
            **software(),
            **figures,
            "runs_measured": runs,
            "systems": [plain(o) for o in outcomes],
        },
        indent=1,
    )
    for path in filter(None, outs):
        path.write_text(text + "\n")
    for path in filter(None, plots):
        from distdqn.report.scaling import plot_scaling

        plot_scaling(title, [(o.nodes, o.frames_per_s, o.binds) for o in outcomes], path)


def _spread(values: Sequence[float]) -> float:
    return (max(values) - min(values)) / max(max(values), 1e-9)
