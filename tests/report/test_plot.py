from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distdqn.cli import main
from distdqn.report.plot import COLUMNS, PlotError, plot_panels, plot_runs, read_curve, smooth


def run(
    path: Path, config: str, points: list[tuple[float, float, float]], metric: str = "actor/episode_return"
) -> Path:
    path.mkdir()
    (path / "config.yaml").write_text(config)
    rows = [{"env_frames": f, "time_s": t, metric: r} for f, t, r in points]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    rising = [(i * 1000.0, i * 60.0, i - 21.0) for i in range(1, 40)]
    runs = [run(tmp_path / f"{s}", f"name: pong\nseed: {s}\n", rising) for s in (1, 2)]
    runs.append(run(tmp_path / "e", "name: breakout\nseed: 1\n", rising[:1], "eval/return_mean"))
    out = plot_runs(runs, tmp_path / "pictures" / "curves.png")
    content = out.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")) == (1200, 450)


def test_settings_have_a_panel_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rising = [(i * 1000.0, i * 60.0, i - 21.0) for i in range(1, 40)]
    runs = [run(tmp_path / f"{n}{s}", f"name: agent{n}\nseed: {s}\n", rising) for n in range(8) for s in (1, 2)]
    out = tmp_path / "panels.png"
    assert main(["plot", "--panels", "--out", str(out), *map(str, runs)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    width, height = (int.from_bytes(out.read_bytes()[i : i + 4], "big") for i in (16, 20))
    one = plot_panels(runs[:2], tmp_path / "one.png").read_bytes()
    assert width == COLUMNS * int.from_bytes(one[16:20], "big") and height > int.from_bytes(one[20:24], "big")
    with pytest.raises(PlotError, match="no run"):
        plot_panels([], out)


def test_seeds_are_of_one_kind_and_other_settings_are_not(tmp_path: Path) -> None:
    configs = [
        "name: 'a'\nseed: 1\nrun_dir: x\nlr: 1\n",
        "name: 'a'\nseed: 2\nrun_dir: y\nengine:\n  kind: ray\n  address: null\nlr: 1\n",
        "name: 'a'\ntrack: null\nlr: 1\n",
        "name: 'a'\nmetrics_port: 9400\ntrack:\n  mode: auto\n  tags:\n  - a\n  group: ''\nlr: 1\n",
        "name: 'a'\nseed: 1\nlr: 2\n",
    ]
    a, b, earlier, tracked, c = (
        read_curve(run(tmp_path / str(i), text, [(1, 1, 1)])) for i, text in enumerate(configs)
    )
    assert a.kind == b.kind == earlier.kind == tracked.kind != c.kind and a.name == "a"


def test_what_a_resumed_run_played_again_is_drawn_once(tmp_path: Path) -> None:
    points = [(100.0, 1.0, 1.0), (200.0, 2.0, 2.0), (300.0, 3.0, 9.0), (250.0, 4.0, 3.0), (350.0, 5.0, 4.0)]
    curve = read_curve(run(tmp_path / "a", "name: a\n", points))
    assert curve.training[0].tolist() == [100, 200, 250, 350] and curve.training[2].tolist() == [1, 2, 3, 4]


def test_smoothing_is_a_centered_mean() -> None:
    assert smooth(np.array([0.0, 3.0, 6.0, 0.0]), 3).tolist() == [
        (0 + 3) / 2,
        (0 + 3 + 6) / 3,
        (3 + 6 + 0) / 3,
        (6 + 0) / 2,
    ]
    assert smooth(np.array([1.0, 2.0]), 1).tolist() == [1.0, 2.0]


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    empty = run(tmp_path / "empty", "name: a\n", [])
    for runs, why in (([], "no run"), ([tmp_path / "nowhere"], "holds no run"), ([empty], "no returns to draw yet")):
        with pytest.raises(PlotError, match=why) as error:
            plot_runs(runs, tmp_path / "out.png")
        assert "\n" not in str(error.value)
    fine = run(tmp_path / "fine", "name: a\n", [(1, 1, 1)])
    with pytest.raises(PlotError, match="cannot be written"):
        plot_runs([fine], fine / "config.yaml" / "out.png")
