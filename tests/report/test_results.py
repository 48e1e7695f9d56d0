from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from distdqn.report.results import runs_in, show


def run(path: Path, config: str, **summary: object) -> Path:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(config)
    if summary:
        (path / "summary.json").write_text(json.dumps(summary))
    return path


def table(runs: list[Path]) -> list[list[str]]:
    console = Console(width=200)
    with console.capture() as shown:
        show(runs, console)
    return [line.split() for line in shown.get().splitlines()]


def test_a_table_shows_what_tells_runs_of_one_name_apart(tmp_path: Path) -> None:
    for i, (name, rate, frames) in enumerate((("a", 1e-3, 1200.0), ("a", 1e-4, 3e6), ("b", 1e-3, 10.0))):
        config = f"name: {name}\nrun_dir: {i}\nenv: {{game: {name}}}\nlearner: {{lr: {rate}, epsilon: 1}}\n"
        ended = {"outcome": "done", "env_frames": frames, "eval/return_mean": i, "eval/best_return": 2.5, "time_s": 61}
        run(tmp_path / f"{i}" / name, config, **ended)
    assert table(runs_in([tmp_path])) == [
        ["run", "learner.lr", "outcome", "frames", "updates", "evaluation", "best", "time"],
        ["0/a", "0.001", "done", "1.20k", "–", "0", "2.5", "1", "min", "01", "s"],
        ["1/a", "0.0001", "done", "3.00M", "–", "1", "2.5", "1", "min", "01", "s"],
        ["2/b", "0.001", "done", "10", "–", "2", "2.5", "1", "min", "01", "s"],
    ]


def test_a_run_that_goes_on_shows_how_far_it_is(tmp_path: Path) -> None:
    there = run(tmp_path / "there", "name: a\n")
    records = [{"env_frames": 10, "eval/return_mean": 1.5, "time_s": 3}, {"env_frames": 20, "time_s": 4}]
    (there / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"torn')
    assert table([there])[1] == ["there", "goes", "on", "20", "–", "1.5", "–", "4", "s"]
    assert table([run(tmp_path / "begun", "name: [")])[1][:3] == ["begun", "goes", "on"]


def test_runs_of_a_sweep_come_in_its_order(tmp_path: Path) -> None:
    for i in (10, 9, 0):
        run(tmp_path / "sweep" / str(i) / "catch", "name: catch\n")
    alone = run(tmp_path / "alone", "name: catch\n")
    assert [p.parent.name for p in runs_in([tmp_path / "sweep", alone])] == ["0", "9", "10", tmp_path.name]
    assert runs_in([tmp_path / "nothing"]) == [tmp_path / "nothing"]
