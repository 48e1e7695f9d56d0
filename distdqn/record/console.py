"""The run on a screen: live panels on a terminal, a line every so often elsewhere."""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from distdqn.config import RunConfig
from distdqn.config.run import played
from distdqn.record.advice import advice
from distdqn.record.machines import latest, machines


def stage(config: RunConfig, last: Mapping[str, float]) -> str:
    """What is going on, and what holds it up, in one phrase: with what to change where that is known."""
    held, needed = last.get("replay/transitions"), config.replay.min_size
    if "run/fraction" not in last:
        return "starting"
    if not last.get("learner_updates") and held is not None and held < needed:
        return f"filling the replay, {held / needed:.0%} of what learning needs"
    if found := advice(config, last):
        return found[0]
    learner, actor = (last.get(f"{who}/idle_fraction", 0.0) for who in ("learner", "actor"))
    if max(learner, actor) < 0.2:
        return "actors and learner both busy"
    return "the learner waits for experience" if learner > actor else "the actors wait for the learner"


def evaluation(last: Mapping[str, float]) -> str:
    """The last and the best evaluation in words; empty before the first."""
    if "eval/return_mean" not in last:
        return ""
    human = last.get("eval/human_normalised")
    relative = f" ({human:.0%} of human)" if human is not None else ""
    return f"{number(last['eval/return_mean'])}{relative}, best {number(last.get('eval/best_return'))}"


def faults(last: Mapping[str, float]) -> str:
    """The faults that happened, in words; empty where there were none."""
    happened = sorted((k, v) for k, v in last.items() if k.startswith("faults/") and v)
    return ", ".join(f"{k.removeprefix('faults/').replace('_', ' ')} {count(v)}" for k, v in happened)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process where nobody reads any more, as after `| tee` and Ctrl-C: not a run."""
        raise


class Screen:
    """Shows the last value of each metric that it was given. `mode` is auto or live (live on a terminal, lines
    elsewhere), lines, or off (nothing but the final summary). `NO_COLOR` is honoured. Lines appear at most every
    `every` seconds; events always do."""

    def __init__(self, config: RunConfig, mode: str, out: TextIO | None = None, every: float = 10.0) -> None:
        self._console = _Console(file=out or sys.stdout, highlight=False)
        self._config = config
        self.last: Mapping[str, float] = {}
        can_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._mode = mode if mode in ("off", "lines") else ("live" if can_live else "lines")
        self._every, self._printed = every, float("-inf")
        self._event = ""
        self._live: Live | None = None
        if self._mode == "live":
            self._live = Live(console=self._console, get_renderable=self._draw, transient=True)
            self._live.start()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Takes in one record and shows it when it is time; metrics that it lacks keep their value."""
        self.last = latest(self.last, metrics)  # a new one each time: rich draws from a thread of its own
        now = time.monotonic()
        if self._mode == "lines" and now - self._printed >= self._every:
            self._printed = now
            self._print(self._line())

    def event(self, text: str) -> None:
        """Shows `text`, which begins with its time of day, until the next event."""
        self._event = text
        if self._mode == "lines":
            self._print(text)

    def close(self, rows: Sequence[tuple[str, str]] = ()) -> None:
        """Ends the display with a few lines of name and text on what the run came to."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        # Often the reason for the end: it went with the live screen, and off never showed it.
        unseen = [("last event", self._event)] if self._event and self._mode != "lines" else []
        for name, text in [*rows, *unseen]:
            self._print(f"{name:<11} {text}")

    def _print(self, text: str) -> None:
        # A log has no columns to fill: folding lines there would only make them hard to search.
        self._console.print(text, markup=False, soft_wrap=True)

    def _line(self) -> str:
        last = self.last
        left = f", {duration(last['run/seconds_left'])} left" if "run/seconds_left" in last else ""
        evaluated = evaluation(last)
        parts = [
            f"{duration(last.get('time_s', 0.0))}  {percent(last.get('run/fraction')):>4}{left}",
            f"{count(last.get('env_frames'))} frames ({count(last.get('run/frames_per_s'))}/s)",
            f"{count(last.get('learner_updates'))} updates ({count(last.get('run/updates_per_s'))}/s)",
            f"return {number(last.get('actor/recent_return'))}",
            f"evaluation {evaluated}" if evaluated else "",
            f"loss {number(last['learner/loss'])}" if "learner/loss" in last else "",
        ]
        return " | ".join(filter(None, [*parts, stage(self._config, last), machines(last), faults(last)]))

    def _draw(self) -> RenderableType:
        config, last = self._config, self.last
        what = f" {played(config.env)}, {config.agent.name}, seed {config.seed}"
        title = Text.assemble((config.name, "bold"), (what, "dim"))
        fraction, left = last.get("run/fraction"), last.get("run/seconds_left")
        budget = Table.grid(padding=(0, 2, 0, 0), expand=True)
        budget.add_column(ratio=1)
        budget.add_column(justify="right", no_wrap=True)
        used = "–" if fraction is None else f"{fraction:.1%}"
        remaining = "time left unknown" if left is None else f"{duration(left)} left"
        elapsed = f" of the budget, {duration(last.get('time_s', 0.0))}, "
        budget.add_row(
            ProgressBar(total=1.0, completed=fraction or 0.0, complete_style="cyan", finished_style="green"),
            Text.assemble((used, "bold"), elapsed, (remaining, "bold")),
        )
        groups = _groups(config, last)
        columns = 4 if self._console.width >= 110 else 2
        panels = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for _ in range(columns):
            panels.add_column(ratio=1)
        for i in range(0, len(groups), columns):
            panels.add_row(*groups[i : i + columns])
            panels.add_row(Text())
        happened, now, hosts = faults(last), stage(config, last), machines(last)
        body = Group(
            *([Text(config.note, "italic", overflow="ellipsis", no_wrap=True)] if config.note else []),
            budget,
            Text(now[:1].upper() + now[1:], "dim"),
            *([Text(hosts, "dim")] if hosts else []),
            Text(),
            panels,
            Text(f"Faults: {happened}", "yellow") if happened else Text("No faults", "dim"),
            Text(self._event, overflow="ellipsis", no_wrap=True),
        )
        return Panel(Padding(body, (0, 1)), title=title, title_align="left", border_style="cyan")


def make_console() -> Console:
    """Where tables are printed: as wide as the terminal, elsewhere as wide as a page."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 118)


def count(value: float | None) -> str:
    """A number of things, short: 950, 12.3k, 1.20M."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else f"{value:g}"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            scaled = value / size
            return f"{scaled:.{0 if abs(scaled) >= 99.95 else 1 if abs(scaled) >= 9.995 else 2}f}{unit}"
    return f"{value:.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.1f}"


def number(value: float | None) -> str:
    """A measured value in about three digits."""
    if value is None:
        return "–"
    return count(value) if abs(value) >= 1e5 else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(value: float | None) -> str:
    """A fraction as per cent."""
    return "–" if value is None else f"{value:.0%}"


def duration(seconds: float) -> str:
    """A time, short: 42 s, 5 min 03 s, 2 h 05 min, 3 d 04 h."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h:02} h"
    return f"{hours} h {m:02} min" if hours else f"{minutes} min {s:02} s" if minutes else f"{s} s"


def _groups(config: RunConfig, last: Mapping[str, float]) -> list[Table]:
    idle = {k: last.get(f"{k}/idle_fraction") for k in ("actor", "learner")}
    style = {k: "yellow" if (v or 0) >= 0.5 else "" for k, v in idle.items()}
    held, capacity = last.get("replay/transitions"), config.replay.capacity
    samples_per_insert = number(last.get("replay/samples_per_insert"))
    named: dict[str, list[tuple[str, ...]]] = {
        "Acting": [
            ("frames", count(last.get("env_frames"))),
            ("frames/s", count(last.get("run/frames_per_s"))),
            ("recent return", number(last.get("actor/recent_return")), "bold green"),
            ("lag, updates", count(last.get("actor/weights_lag"))),
            ("actors idle", percent(idle["actor"]), style["actor"]),
        ],
        "Learning": [
            ("updates", count(last.get("learner_updates"))),
            ("updates/s", count(last.get("run/updates_per_s"))),
            ("samples/s", count(last.get("learner/samples_per_s"))),
            ("loss", number(last.get("learner/loss"))),
            ("learner idle", percent(idle["learner"]), style["learner"]),
        ],
        "Replay": [
            ("transitions", count(held)),
            ("capacity", count(capacity)),
            ("full", percent(held / capacity if held is not None else None)),
            ("samples/insert", f"{samples_per_insert} of {number(config.learner.samples_per_insert)}"),
        ],
        "Evaluation": [
            ("last return", number(last.get("eval/return_mean")), "bold green"),
            ("best return", number(last.get("eval/best_return")), "bold green"),
            ("human = 100%", percent(last.get("eval/human_normalised"))),
            ("mean Q", number(last.get("learner/q_mean"))),
        ],
    }
    return [_table(name, rows) for name, rows in named.items()]


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_row(Text(title, "bold cyan"), "")
    for name, value, *style in rows:
        table.add_row(Text(f" {name}"), Text(value, style[0] if style else ""))
    return table
