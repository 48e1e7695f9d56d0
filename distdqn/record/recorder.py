"""One `Recorder` in front of every place where numbers go."""

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import numpy as np

from distdqn.config import RunConfig
from distdqn.config.stored import as_shown, as_typed
from distdqn.record import jsonl, wandb
from distdqn.record.advice import advice
from distdqn.record.machines import latest
from distdqn.record.tensorboard import TensorBoard
from distdqn.run_folder import RunFolder
from distdqn.types import State

if TYPE_CHECKING:
    from distdqn.record.console import Screen

REQUIRED = ("time_s", "env_frames", "env_steps", "learner_updates")
"""What every record holds."""


class Sink(Protocol):
    """A place where records go."""

    def write(self, metrics: Mapping[str, float]) -> None:
        """Takes one record."""

    def close(self) -> None:
        """Writes what is pending."""


class Recorder:
    """Hands each record to `metrics.jsonl`, TensorBoard, W&B, Prometheus and the screen.

    A place that fails is left out from then on, with an event; `metrics.jsonl` alone is tried again. `last` holds the
    last value of each metric.

    Args:
        folder: the run's folder; records already in it are read, and `last` goes on from them.
        config: `tensorboard`, `metrics_port`, `screen` and `track` say which places there are. What came out of the
            environment goes nowhere: it is shown and sent as it was typed.
        out: where the screen is; standard output by default.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, out: TextIO | None = None) -> None:
        listens = config.metrics_host
        config = as_shown(config, config.typed)
        self._folder, self._config = folder, config
        self._wandb_id = wandb.new_id()
        self._wandb: wandb.WandB | None = None
        self._started = self._closed = False
        self._outcome = ""
        self._advice: list[str] = []
        """Of the last time that it was training."""
        self._sinks: dict[str, Sink] = {}
        self.last: dict[str, float] = {}
        self._recorded = 0
        """Records of earlier sessions."""
        for metrics in jsonl.read(folder.metrics):
            self.last.update(metrics)
            self._recorded += 1
        self._screen: Screen | None = None

        def screen() -> Sink:
            from distdqn.record.console import Screen  # late, as it draws on a library that only a run needs

            self._screen = Screen(config, config.screen, out)
            # how fast an earlier session was, and of which budget, says nothing of this one
            self._screen.last = {k: v for k, v in self.last.items() if not k.startswith("run/")}
            return self._screen

        self._open("screen", screen)
        self._open("metrics.jsonl", lambda: jsonl.JsonLines(folder.metrics))
        if config.metrics_port is not None:
            self._open("the metrics' page", lambda: self._prometheus(listens))
        if config.tensorboard:
            self._open("TensorBoard", lambda: TensorBoard(folder.tensorboard))

    def record(self, metrics: Mapping[str, float]) -> None:
        """Hands on one record. Raises `ValueError` if it lacks one of `REQUIRED`."""
        if missing := [name for name in REQUIRED if name not in metrics]:
            raise ValueError(f"a record lacks {', '.join(missing)}")
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in metrics.items()}
        self.last = latest(self.last, plain)
        if "run/learner_idle" in plain:
            self._advice = advice(self._config, self.last)
        if not self._started:
            self._started = True
            self._start_wandb()
        if "metrics.jsonl" not in self._sinks:
            self._open("metrics.jsonl", lambda: jsonl.JsonLines(self._folder.metrics), quiet=True)
        for name, sink in list(self._sinks.items()):
            self._try(name, partial(sink.write, plain))
        self._pass_on_notices()

    def event(self, text: str) -> None:
        """Shows one line on the screen, with the time of day."""
        if self._screen is not None:
            try:
                self._screen.event(f"{time.strftime('%H:%M:%S')} {text}")
            except Exception:  # a terminal that went away: nobody is left to tell
                self._screen = None
                self._sinks.pop("screen", None)

    def summary(self, extra: Mapping[str, Any] | None = None) -> bool:
        """Writes `summary.json` atomically: the run's name and seed, the last value of each metric, and
        `extra`, whose `outcome` is shown at the end. False where the disk refuses."""
        content = {"name": self._config.name, "seed": self._config.seed, **self.last, **(extra or {})}
        self._outcome = str((extra or {}).get("outcome", ""))
        if self._wandb is not None and self._outcome:
            self._wandb.summarize({"outcome": self._outcome})
        return self._try("summary.json", lambda: _write_json(self._folder.summary, content))

    def film(self, path: Path) -> None:
        """Hands on the film of an evaluation's game."""
        if (tracked := self._wandb) is not None:
            self._try("the film for W&B", lambda: tracked.film(path))

    def finished(self, scores: Mapping[str, Any], checkpoint: Path | None) -> None:
        """Hands on the `scores` of the final evaluation and, where `track.artifacts` asks for it, the best
        `checkpoint`'s folder."""
        if self._wandb is not None:
            self._wandb.finished(scores, checkpoint if self._config.track.artifacts else None)

    def state(self) -> State:
        """What a checkpoint keeps: the W&B run's id."""
        return {"wandb_id": self._wandb_id}

    def restore(self, state: State) -> None:
        """Goes on with the W&B run of `state`. Raises `RuntimeError` after the first record."""
        if self._started:
            raise RuntimeError("restore the recorder before its first record")
        self._wandb_id = str(state["wandb_id"])

    def close(self, hurry: bool = False) -> None:
        """Writes what is pending and shows how the run ended. W&B may take a minute, in a `hurry` 3 seconds."""
        if self._closed:
            return
        self._closed = True
        if hurry and self._wandb is not None and self._sinks.pop("W&B", None) is not None:
            self._wandb.close(wait_s=3.0)
        for name in [n for n in self._sinks if n != "screen"]:
            self._try(name, self._sinks.pop(name).close)
        self._pass_on_notices()
        if self._screen is not None:
            try:
                self._screen.close(self._closing())
            except Exception:  # as in `event`
                self._screen = None

    def _closing(self) -> list[tuple[str, str]]:
        """What the run came to, as names and texts; without those that say nothing."""
        from distdqn.record.console import count, duration, evaluation, faults, number

        config, last = self._config, self.last
        rows = {
            "run": ", ".join(filter(None, [config.name, f"seed {config.seed}", self._outcome])),
            "played": f"{count(last.get('env_frames'))} frames in {duration(last.get('time_s', 0.0))}",
            "learned": f"{count(last.get('learner_updates'))} updates",
            "return": f"{number(last.get('actor/recent_return'))} in recent training games",
            "evaluation": evaluation(last),
            "faults": faults(last),
            "advice": "; ".join(self._advice),
            "folder": str(self._folder.path),
            "W&B": f"`{self._wandb.sync}` uploads it" if self._wandb and self._wandb.mode == "offline" else "",
        }
        return [(name, text) for name, text in rows.items() if text]

    def _prometheus(self, host: str) -> Sink:
        from distdqn.record.prometheus import Prometheus

        config = self._config
        made = Prometheus(host, config.metrics_port or 0, {"run": config.name, "seed": str(config.seed)})
        self.event(f"metrics at {made.where}")
        return made

    def _start_wandb(self) -> None:
        config, track = self._config, self._config.track
        if (mode := wandb.choose_mode(track.mode)) == "disabled":
            return
        group = track.group or os.environ.get("WANDB_RUN_GROUP") or config.name
        about = wandb.About(self._wandb_id, f"{config.name}-seed{config.seed}", group, track.job_type, track.tags)

        def start() -> wandb.WandB:
            finish_s = wandb.UPLOAD_S if track.artifacts else None
            as_said, recorded = as_typed(config), self._recorded
            self._wandb = wandb.WandB(self._folder.wandb, mode, about, as_said, recorded, finish_s=finish_s)
            return self._wandb

        self._open("W&B", start)

    def _pass_on_notices(self) -> None:
        while self._wandb is not None and not self._wandb.notices.empty():
            self.event(self._wandb.notices.get())

    def _open(self, name: str, make: Callable[[], Sink], quiet: bool = False) -> None:
        self._try(name, lambda: self._sinks.update({name: make()}), quiet)

    def _try(self, name: str, act: Callable[[], None], quiet: bool = False) -> bool:
        try:
            act()
            return True
        except Exception as error:
            self._sinks.pop(name, None)
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            if not quiet:
                self.event(f"{name} failed and is left out: {why}")
            return False


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Atomically; arrays become lists, and numbers that are not finite null."""
    text = json.dumps(content, default=lambda value: value.tolist() if hasattr(value, "tolist") else str(value))
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(json.dumps(json.loads(text, parse_constant=lambda _: None), indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
