"""The run on a screen: live panels on a terminal, a line every so often elsewhere."""

from __future__ import annotations

import copy
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from distdqn.config import RunConfig

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.table import Table

_RECENT = 60.0  # seconds over which rates are measured


class Progress:
    """What the run has come to: the last value of each metric, rates over the last minute, time left."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.last: dict[str, float] = {}
        self.best_evaluation: float | None = None
        self._window: deque[tuple[float, float, float]] = deque()
        self._returns: deque[float] = deque(maxlen=10)

    def absorb(self, metrics: Mapping[str, float]) -> None:
        """Takes in one record; metrics that it lacks keep their value."""
        self.last.update(metrics)
        if (score := metrics.get("eval/return_mean")) is not None:
            self.best_evaluation = score if self.best_evaluation is None else max(self.best_evaluation, score)
        if (episode_return := metrics.get("actor/episode_return")) is not None:
            self._returns.append(episode_return)
        if "time_s" not in metrics:
            return
        now = (self.last["time_s"], self.last.get("env_frames", 0.0), self.last.get("learner_updates", 0.0))
        if self._window and any(n < w for n, w in zip(now, self._window[-1], strict=True)):
            self._window.clear()
        self._window.append(now)
        while len(self._window) > 2 and self._window[1][0] <= now[0] - _RECENT:
            self._window.popleft()

    def forget_rates(self) -> None:
        """Starts the rates afresh: a resumed run's earlier records say nothing about this one's speed."""
        self._window.clear()

    @property
    def episode_return(self) -> float | None:
        """Mean of the last ten records that had finished games."""
        return sum(self._returns) / len(self._returns) if self._returns else None

    @property
    def rates(self) -> tuple[float, float] | None:
        """Emulator frames and learner updates per second, or None before there are two records."""
        if len(self._window) < 2 or (seconds := self._window[-1][0] - self._window[0][0]) <= 0:
            return None
        frames, updates = (self._window[-1][i] - self._window[0][i] for i in (1, 2))
        return frames / seconds, updates / seconds

    @property
    def budget(self) -> tuple[float, float | None]:
        """The fraction of the budget used, in [0, 1], and the seconds left at the recent rate."""
        budget, last, rates = self.config.budget, self.last, self.rates or (0.0, 0.0)
        limits = [
            (last.get("env_frames", 0.0), budget.env_frames, rates[0]),
            (last.get("time_s", 0.0), budget.seconds, 1.0),
            (last.get("learner_updates", 0.0), budget.updates, rates[1]),
        ]
        known = [(done, limit, rate) for done, limit, rate in limits if limit is not None]
        fraction = min(max(done / limit for done, limit, _ in known), 1.0)
        left = [max(limit - done, 0.0) / rate for done, limit, rate in known if rate > 0]
        return fraction, min(left) if left else None

    @property
    def evaluation(self) -> str:
        """The last and the best evaluation in words; empty before the first."""
        human, last = self.last.get("eval/human_normalised"), self.last.get("eval/return_mean")
        relative = f" ({human:.0%} of human)" if human is not None else ""
        best = self.best_evaluation
        return f"{number(last)}{relative}, best {number(best)}" if best is not None else ""

    @property
    def faults(self) -> str:
        """The faults that happened, in words; empty where there were none."""
        happened = sorted((k, v) for k, v in self.last.items() if k.startswith("faults/") and v)
        return ", ".join(f"{k.removeprefix('faults/').replace('_', ' ')} {count(v)}" for k, v in happened)

    @property
    def stage(self) -> str:
        """What is going on, and what holds it up, in one phrase."""
        held, needed = self.last.get("replay/transitions"), self.config.replay.min_size
        if not self.last:
            return "starting"
        if not self.last.get("learner_updates") and held is not None and held < needed:
            return f"filling the replay, {held / needed:.0%} of what learning needs"
        learner, actor = (self.last.get(f"{who}/idle_fraction", 0.0) for who in ("learner", "actor"))
        if max(learner, actor) < 0.2:
            return "actors and learner both busy"
        return "the learner waits for experience" if learner > actor else "the actors wait for the learner"


class Screen:
    """Shows a run's progress.

    `mode` is auto or live (live on a terminal, lines elsewhere), lines, or off (nothing but the final
    summary). `NO_COLOR` is honoured. Lines appear at most every `every` seconds; events always do.
    """

    def __init__(self, config: RunConfig, mode: str, out: TextIO | None = None, every: float = 10.0) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console: RichConsole = Console(file=out or sys.stdout, highlight=False)
        self.progress = Progress(config)
        can_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._mode = mode if mode in ("off", "lines") else ("live" if can_live else "lines")
        self._every, self._printed = every, float("-inf")
        self._lock = threading.Lock()
        self._event = ""
        self._heard: tuple[float, float] | None = None
        self._live: Live | None = None
        if self._mode == "live":
            self._live = Live(console=self._console, get_renderable=self._draw, transient=True)
            self._live.start()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Takes in one record and shows it when it is time."""
        now = time.monotonic()
        with self._lock:
            self.progress.absorb(metrics)
            self._heard = (now, self.progress.last.get("time_s", 0.0))
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
        p = self.progress
        fraction, left = p.budget
        frames, updates = p.rates or (None, None)
        parts = [
            f"{duration(p.last.get('time_s', 0.0))}  {fraction:4.0%}"
            + (f", {duration(left)} left" if left is not None else ""),
            f"{count(p.last.get('env_frames'))} frames ({count(frames)}/s)",
            f"{count(p.last.get('learner_updates'))} updates ({count(updates)}/s)",
            f"return {number(p.episode_return)}",
        ]
        parts += [f"evaluation {p.evaluation}"] if p.evaluation else []
        parts += [f"loss {number(p.last['learner/loss'])}"] if "learner/loss" in p.last else []
        return " | ".join(filter(None, [*parts, p.stage, p.faults]))

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.padding import Padding
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self._lock:  # rich draws from a thread of its own
            p = copy.deepcopy(self.progress)
        config = p.config
        fraction, left = p.budget
        elapsed = self._heard[1] + time.monotonic() - self._heard[0] if self._heard else 0.0
        env = {"atari": config.env.game, "gym": config.env.id}.get(config.env.kind, config.env.kind)
        details = (f" {env}, {config.agent.name}, seed {config.seed}", "dim")
        title = Text.assemble((config.name, "bold"), details)
        budget = Table.grid(padding=(0, 2, 0, 0), expand=True)
        budget.add_column(ratio=1)
        budget.add_column(justify="right", no_wrap=True)
        remaining = (f"{duration(left)} left" if left is not None else "time left unknown", "bold")
        budget.add_row(
            ProgressBar(total=1.0, completed=fraction, complete_style="cyan", finished_style="green"),
            Text.assemble((f"{fraction:.1%}", "bold"), f" of the budget, {duration(elapsed)}, ", remaining),
        )
        groups = _groups(p)
        columns = 4 if self._console.width >= 110 else 2
        panels = Table.grid(padding=(0, 2, 0, 0), expand=True)
        for _ in range(columns):
            panels.add_column(ratio=1)
        for i in range(0, len(groups), columns):
            panels.add_row(*groups[i : i + columns])
            panels.add_row(Text())
        faults = Text(f"Faults: {p.faults}", "yellow") if p.faults else Text("No faults", "dim")
        last = Text(self._event, overflow="ellipsis", no_wrap=True)
        note = [Text(config.note, "italic", overflow="ellipsis", no_wrap=True)] if config.note else []
        stage = Text(p.stage[:1].upper() + p.stage[1:], "dim")
        body = Group(*note, budget, stage, Text(), panels, faults, last)
        return Panel(Padding(body, (0, 1)), title=title, title_align="left", border_style="cyan")


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


def _groups(p: Progress) -> list[Table]:
    config, last = p.config, p.last
    frames, updates = p.rates or (None, None)
    idle = {k: last.get(f"{k}/idle_fraction") for k in ("actor", "learner")}
    style = {k: "yellow" if (v or 0) >= 0.5 else "" for k, v in idle.items()}
    held, capacity = last.get("replay/transitions"), config.replay.capacity
    samples_per_insert = number(last.get("replay/samples_per_insert"))
    named: dict[str, list[tuple[str, ...]]] = {
        "Acting": [
            ("frames", count(last.get("env_frames"))),
            ("frames/s", count(frames)),
            ("recent return", number(p.episode_return), "bold green"),
            ("lag, updates", count(last.get("actor/weights_lag"))),
            ("actors idle", percent(idle["actor"]), style["actor"]),
        ],
        "Learning": [
            ("updates", count(last.get("learner_updates"))),
            ("updates/s", count(updates)),
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
            ("best return", number(p.best_evaluation), "bold green"),
            ("human = 100%", percent(last.get("eval/human_normalised"))),
            ("mean Q", number(last.get("learner/q_mean"))),
        ],
    }
    return [_table(name, rows) for name, rows in named.items()]


def _table(title: str, rows: Sequence[tuple[str, ...]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_row(Text(title, "bold cyan"), "")
    for name, value, *style in rows:
        table.add_row(Text(f" {name}"), Text(value, style[0] if style else ""))
    return table
