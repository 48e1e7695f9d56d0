"""Metrics to Weights & Biases, from a thread of its own: training never waits for a network."""

import contextlib
import math
import netrc
import os
import queue
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

_CLOUD = "https://api.wandb.ai"
FINISH_S = 30.0
"""The longest that finishing may take."""


def new_id() -> str:
    """A fresh run id; kept in checkpoints so that a resumed run goes on in the same place."""
    return secrets.token_hex(4)


def logged_in() -> bool:
    """Whether there is a login for the W&B server in use (`WANDB_BASE_URL`, else the public one)."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or _CLOUD).hostname
    homes = (Path.home() / name for name in (".netrc", "_netrc"))
    file = os.environ.get("NETRC") or next((path for path in homes if path.is_file()), None)
    try:
        return bool(file and host and netrc.netrc(str(file)).authenticators(host))
    except (OSError, netrc.NetrcParseError):
        return False


def choose_mode(track: str | None) -> str:
    """online, offline or disabled: as asked, else `WANDB_MODE`, else online where there is a login."""
    asked = track or os.environ.get("WANDB_MODE")
    if asked in ("online", "offline", "disabled"):
        return asked
    return "online" if logged_in() else "disabled"


class WandB:
    """One W&B run, fed through a bounded queue.

    Whatever goes wrong online, it goes on offline; whatever goes wrong offline, it goes off. Each step down,
    and the run's address, is put into `notices` as one line.

    Args:
        folder: where W&B keeps its files; it adds a folder `wandb` of its own unless this one has that name.
        mode: online or offline.
        run_id: from `new_id` or a checkpoint.
        name, group: as shown in W&B; runs of a group differ in their seed.
        config: plain nested containers.
        init_s: the longest that starting may take, in seconds.
    """

    def __init__(
        self, folder: Path, mode: str, run_id: str, name: str, group: str, config: dict[str, Any], init_s: float = 30.0
    ) -> None:
        self.notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.mode = mode
        self._folder = folder.parent if folder.name == "wandb" else folder  # W&B makes its own folder "wandb" inside
        self._run: dict[str, Any] = {"id": run_id, "name": name, "group": group, "config": config}
        self._init_s = init_s
        self._queue: queue.Queue[dict[str, float] | None] = queue.Queue(maxsize=10_000)
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Queues the finite metrics and returns at once; a full queue drops its oldest record."""
        if self.mode != "disabled":
            self._put({k: float(v) for k, v in metrics.items() if math.isfinite(v)})

    def close(self, wait_s: float | None = None) -> None:
        """Finishes the run, or gives up after `wait_s` (or `init_s + FINISH_S`); what is then missing lies on disk."""
        self._put(None)
        self._thread.join(self._init_s + FINISH_S if wait_s is None else wait_s)
        if self._thread.is_alive():
            self.notices.put(self._rest())

    def _rest(self) -> str:
        here = self._folder / "wandb" / f"*run-*-{self._run['id']}"
        return f"W&B did not finish in time: `wandb sync {here}` uploads the rest"

    def _put(self, item: dict[str, float] | None) -> None:
        while True:
            try:
                return self._queue.put_nowait(item)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()

    def _work(self) -> None:
        if self.mode == "online" and not logged_in():
            self._step_down("no login (`wandb login`)")
        run = None
        while run is None and self.mode != "disabled":
            try:
                run = self._start()
            except Exception as error:
                self._step_down(str(error))
        if run is not None and self.mode == "online":
            self.notices.put(f"W&B: {run.url}")
        while (metrics := self._queue.get()) is not None:
            try:
                if run is not None:
                    run.log(metrics)
            except Exception as error:
                self.mode = "disabled"
                self.notices.put(f"W&B is off: {_line(error)}")
                break
        try:
            if run is not None:
                run.finish()
        except TimeoutError:
            self.notices.put(self._rest())
        except Exception as error:
            self.notices.put(f"W&B did not finish: {_line(error)}")

    def _start(self) -> Any:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        plain: dict[str, Any] = {"console": "off", "silent": True, "finish_timeout_raises": True}
        mode: Literal["online", "offline"] = "online" if self.mode == "online" else "offline"
        try:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "distdqn"),
                resume="allow" if self.mode == "online" else None,
                dir=str(self._folder),
                mode=mode,
                reinit="create_new",
                settings=wandb.Settings(**plain, init_timeout=self._init_s, finish_timeout=FINISH_S),
                **self._run,
            )
            run.define_metric("*", step_metric="env_frames")
            return run
        except BaseException:
            # W&B's service holds on to the id of a run that failed to start and would refuse it offline.
            wandb.teardown()
            raise

    def _step_down(self, why: str) -> None:
        self.mode = "offline" if self.mode == "online" else "disabled"
        self.notices.put(f"W&B goes {'on offline' if self.mode == 'offline' else 'off'}: {_line(why)}")


def _line(text: object) -> str:
    return " ".join(str(text).split())[:120]
