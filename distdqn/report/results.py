"""What became of several runs, a line each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from distdqn.record import jsonl
from distdqn.record.console import count, duration, number

NAMED_ELSEWHERE = ("run_dir", "name", "note", "engine.address")
LINES, MOST_KEYS = 100, 6
"""A table for people has no more."""


def runs_in(folders: Sequence[Path]) -> list[Path]:
    """The folders of runs: each of `folders`, or those below it where it is a sweep's or a scaling experiment's."""
    found = list[Path]()
    for folder in folders:
        several = () if (folder / "config.yaml").is_file() else ("*/*/config.yaml", "nodes-*/config.yaml")
        below = [path.parent for pattern in several for path in folder.glob(pattern)]
        found += sorted(below, key=lambda path: (_number(path.parent.name), str(path))) or [folder]
    return found


def show(runs: Sequence[Path], console: Console) -> None:
    """Prints a table of `runs`: what tells them apart, how they ended or how far they are, and what they score."""
    configs = [_flat(_config(run)) for run in runs]
    names = [str(config.get("name", run.name)) for run, config in zip(runs, configs, strict=True)]
    keys = [key for key in dict.fromkeys(key for c in configs for key in c) if key not in NAMED_ELSEWHERE]
    values = {key: [_text(config.get(key)) for config in configs] for key in keys}
    of_one_name = len(set(names))  # what all runs of a name have in common, the name says
    shown = [key for key in keys if len(set(zip(names, values[key], strict=True))) > of_one_name][:MOST_KEYS]
    columns = ["run", *shown, "outcome", "frames", "updates", "evaluation", "best", "time"]
    table = Table(*columns, box=None, header_style="bold")
    for i, run in list(enumerate(runs))[:LINES]:
        last = _last(run)
        figures = [number(last.get("eval/return_mean")), number(last.get("eval/best_return"))]
        far = [count(last.get("env_frames")), count(last.get("learner_updates"))]
        label = f"{run.parent.name}/{names[i]}" if run.parent.name.isdigit() else run.name
        own = [values[key][i] for key in shown]
        table.add_row(label, *own, last.get("outcome", "goes on"), *far, *figures, duration(last.get("time_s", 0.0)))
    console.print(table)
    if len(runs) > LINES:
        console.print(f"and {len(runs) - LINES} more")


def _number(name: str) -> int:
    return int(name) if name.isdigit() else -1


def _config(run: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError):
        return {}
    return values if isinstance(values, dict) else {}


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _last(run: Path) -> dict[str, Any]:
    """The run's summary, or the last value of each metric so far."""
    try:
        summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
        return summary
    except (OSError, ValueError):
        last: dict[str, Any] = {}
        for record in jsonl.read(run / "metrics.jsonl"):
            last |= record
        return last
