"""Throughput by the number of machines, beside the ideal line."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, ScalarFormatter

from distdqn.report.plot import _COLOURS, _INK, _QUIET, _save, _tidy


def plot_scaling(title: str, points: list[tuple[int, float, str]], out: Path) -> Path:
    """Draws nodes, frames/s and what binds there into the PNG `out`, both axes logarithmic, and gives its path. Raises
    `PlotError` where it cannot be written."""
    nodes, frames, binds = zip(*points, strict=True)
    figure = Figure((7, 4.5), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=10)
    axes.plot(
        nodes, [frames[0] * n / nodes[0] for n in nodes], color=_QUIET, linewidth=1.5, linestyle="--", label="ideal"
    )
    axes.plot(nodes, frames, color=_COLOURS[0], linewidth=2, marker="o", label=title)
    for x, y, text in zip(nodes, frames, binds, strict=True):
        axes.annotate(text, (x, y), (0, -14), textcoords="offset points", ha="center", fontsize=8, color=_INK)
    _tidy(axes)
    axes.margins(x=0.06)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xticks(nodes)
    axes.minorticks_off()
    axes.set_xlabel("nodes", color=_INK)
    axes.set_ylabel("emulator frames per second", color=_INK)
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return _save(figure, out)
