"""Learning curves of one run or several, over emulator frames and over wall-clock time."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from distdqn.config import ConfigError
from distdqn.record import jsonl

_OF_NO_MATTER = r"^(seed|run_dir|metrics_.*|screen|note):.*\n?|^(engine|track):.*\n(?:[ -].*\n)*"
"""What of a config two runs of one kind may differ in."""
_INK, _QUIET = "#2b2b2b", "#8a8a8a"
COLUMNS = 6
"""Panels in a row."""
_COLOURS = ("#2a6fbb", "#d1495b", "#2e8b57", "#e09f3e", "#7b4b94", "#1b998b", "#8d6a4f", "#5c677d")
_DOTS: dict[str, Any] = {"linewidth": 0, "marker": "o", "markersize": 5.5}
_DOTS |= {"markerfacecolor": "white", "markeredgewidth": 1.5}


Points = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Frames, seconds and returns, each `[P]`."""


class PlotError(ConfigError):
    """A run that cannot be drawn; the message is one line that names its folder and why."""


@dataclass(frozen=True)
class Curve:
    """What the figure draws of a run. Runs of the same `kind` differ only in their seed and their engine."""

    path: Path
    name: str
    kind: str
    training: Points
    evaluation: Points


def read_curve(path: Path) -> Curve:
    """Reads a run's folder. Raises `PlotError` where there is no run or it has no returns yet."""
    config, metrics = path / "config.yaml", path / "metrics.jsonl"
    if not config.is_file():
        raise PlotError(f"{path} holds no run (config.yaml is missing)")
    training, evaluation = _points(jsonl.read(metrics), "actor/episode_return", "eval/return_mean")
    if not len(training[0]) and not len(evaluation[0]):
        raise PlotError(f"{path} has no returns to draw yet: no game has ended in {metrics.name}")
    text = config.read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^name:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    kind = re.sub(_OF_NO_MATTER, "", text, flags=re.MULTILINE)
    return Curve(path, name.group(1).strip("'\"") if name else path.name, kind, training, evaluation)


def plot_runs(runs: list[Path], out: Path) -> Path:
    """Draws the learning curves of `runs` into the PNG `out` and gives its path.

    Left over emulator frames, right over wall-clock time: training returns as they were recorded (thin), smoothed
    (thick), evaluations (dots). Runs that differ only in their seed share a colour. Raises `PlotError` where a folder
    is no run, has no returns, or `out` cannot be written.
    """
    curves, kinds = _read(runs)
    seconds = max(float(c[1][-1]) for curve in curves for c in (curve.training, curve.evaluation) if len(c[1]))
    unit, label = (3600.0, "hours") if seconds >= 2 * 3600 else (60.0, "minutes")
    figure = Figure((12, 4.5), dpi=100, layout="constrained")
    over_frames, over_time = figure.subplots(1, 2, sharey=True)
    for curve in curves:
        colour = _COLOURS[kinds.index(curve.kind) % len(_COLOURS)]
        _draw(over_frames, curve, 0, 1.0, colour)
        _draw(over_time, curve, 1, unit, colour)
    _tidy(over_frames, frames=True)
    _tidy(over_time)
    over_frames.set_xlabel("emulator frames", color=_INK)
    over_frames.set_ylabel("return of a game", color=_INK)
    over_time.set_xlabel(f"wall-clock time, {label}", color=_INK)
    _legend(figure, curves, kinds)
    return _save(figure, out)


def plot_panels(runs: list[Path], out: Path) -> Path:
    """Draws `runs` over emulator frames into the PNG `out`, a panel for each setting, and gives its path. For
    comparisons of many settings, which would hide each other in one pair of axes. `PlotError` as `plot_runs`."""
    curves, kinds = _read(runs)
    columns = min(len(kinds), COLUMNS)
    rows = -(-len(kinds) // columns)
    figure = Figure((2.2 * columns, 1.75 * rows + 0.3), dpi=100, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, name, kind in zip(panels, _names(curves, kinds), kinds, strict=False):
        for curve in curves:
            if curve.kind == kind:
                _draw(axes, curve, 0, 1.0, _COLOURS[0], small=True)
        _tidy(axes, frames=True)
        axes.set_title(name, fontsize=9, color=_INK, loc="left")
        axes.tick_params(labelsize=7)
        axes.locator_params(axis="x", nbins=4)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    figure.supxlabel("emulator frames", fontsize=9, color=_INK)
    figure.supylabel("return of a game", fontsize=9, color=_INK)
    return _save(figure, out)


def _read(runs: list[Path]) -> tuple[list[Curve], list[str]]:
    """The curves, and their kinds in the order of the first run of each."""
    if not runs:
        raise PlotError("no run to draw was given")
    curves = [read_curve(Path(run)) for run in runs]
    return curves, list(dict.fromkeys(c.kind for c in curves))


def _names(curves: list[Curve], kinds: list[str]) -> list[str]:
    """What to call each kind. Two settings of one experiment have one name: their folders tell them apart."""
    groups = [[c for c in curves if c.kind == kind] for kind in kinds]
    names = [group[0].name for group in groups]
    texts = []
    for name, group in zip(names, groups, strict=True):
        text = name if names.count(name) == 1 else f"{name} ({group[0].path.resolve().name})"
        texts.append(text + (f", {len(group)} seeds" if len(group) > 1 else ""))
    return texts


def _save(figure: Figure, out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, format="png", facecolor="white")
    except OSError as error:
        raise PlotError(f"{out} cannot be written ({error.strerror})") from error
    return out


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """Centered running mean of `values` `[P]` over up to `window` points, fewer at both ends, `[P]`."""
    sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
    index, reach = np.arange(len(values)), window // 2
    first, end = np.maximum(index - reach, 0), np.minimum(index + reach + 1, len(values))
    return (sums[end] - sums[first]) / (end - first)


def _points(records: Iterable[dict[str, float]], *metrics: str) -> list[Points]:
    """Those of each metric, without what a resumed run played over again from its checkpoint. No record is kept."""
    kept: list[list[tuple[float, float, float]]] = [[] for _ in metrics]
    for record in records:
        if "env_frames" not in record or "time_s" not in record:
            continue
        for rows, metric in zip(kept, metrics, strict=True):
            while rows and rows[-1][0] > record["env_frames"]:
                rows.pop()
            if metric in record:
                rows.append((record["env_frames"], record["time_s"], record[metric]))
    columns = [np.array(rows, dtype=np.float64).reshape(-1, 3).T for rows in kept]
    return [(frames, seconds, values) for frames, seconds, values in columns]


def _draw(axes: Axes, curve: Curve, column: int, scale: float, colour: str, small: bool = False) -> None:
    x, y = curve.training[column] / scale, curve.training[2]
    if len(x):
        axes.plot(x, y, color=colour, linewidth=0.7, alpha=0.25, zorder=2)
        axes.plot(x, smooth(y, max(len(y) // 15, 1)), color=colour, linewidth=1 if small else 2, zorder=3)
    dots = _DOTS | ({"markersize": 3, "markeredgewidth": 1} if small else {})
    axes.plot(curve.evaluation[column] / scale, curve.evaluation[2], color=colour, zorder=4, **dots)


def _tidy(axes: Axes, frames: bool = False) -> None:
    axes.grid(True, axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.02, y=0.06)
    axes.tick_params(colors=_INK, length=0, labelleft=True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_QUIET)
    if frames:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _legend(figure: Figure, curves: list[Curve], kinds: list[str]) -> None:
    handles = [
        Line2D([], [], color=_COLOURS[i % len(_COLOURS)], linewidth=2.5, label=name)
        for i, name in enumerate(_names(curves, kinds))
    ]
    handles.append(Line2D([], [], color=_QUIET, linewidth=2, label="training, smoothed"))
    if any(len(c.evaluation[0]) for c in curves):
        handles.append(Line2D([], [], color=_QUIET, label="evaluation", **_DOTS))
    look: dict[str, Any] = {"frameon": False, "fontsize": 9, "labelcolor": _INK, "handlelength": 1.6}
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 5), **look)
