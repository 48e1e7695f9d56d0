"""Metrics to Weights & Biases, from a thread of its own: training never waits for a network."""

import contextlib
import io
import json
import math
import netrc
import os
import queue
import secrets
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from distdqn.record.machines import by_machine

_CLOUD = "https://api.wandb.ai"
FINISH_S, UPLOAD_S = 30.0, 600.0
"""The longest that finishing may take, without and with a checkpoint to upload."""
_SCHEDULERS = (
    *(f"SLURM_{name}" for name in ("CLUSTER_NAME", "JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT")),
    "RAY_CLUSTER_NAME",
)
"""What Slurm and KubeRay say of a job in the environment."""


def new_id() -> str:
    """A fresh run id, or the one that a W&B agent gives; kept in checkpoints so that a resumed run goes on in the same
    place."""
    given = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
    return given or secrets.token_hex(4)


def scheduled() -> dict[str, str]:
    """What the scheduler says of this job: `slurm_job_id` and the like, and the id and name of a Ray job."""
    found = {name.lower(): value for name in _SCHEDULERS if (value := os.environ.get(name))}
    try:
        of_ray = json.loads(os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"])["metadata"]
        names = {"job_submission_id": "ray_job_id", "job_name": "ray_job_name"}
        found |= {ours: str(of_ray[name]) for name, ours in names.items() if of_ray.get(name)}
    except (KeyError, ValueError, TypeError, AttributeError):  # not started by `ray job submit`
        pass
    return found


@dataclass(frozen=True)
class About:
    """What W&B shows of a run: its `id`, from `new_id` or a checkpoint, its `name` and those it is shown with."""

    id: str
    name: str
    group: str = ""
    job_type: str = "train"
    tags: Sequence[str] = ()


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


def choose_mode(track: str) -> str:
    """online, offline or disabled: as asked, for auto `WANDB_MODE`, else online where there is a login."""
    asked = os.environ.get("WANDB_MODE") if track == "auto" else track
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
        about: how it is shown. config: plain nested containers.
        recorded: records of earlier sessions, after which this one's are counted: W&B drops what goes back.
        init_s, finish_s: the longest that starting and finishing may take, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        mode: str,
        about: About,
        config: dict[str, Any],
        recorded: int = 0,
        init_s: float = 30.0,
        finish_s: float | None = None,
    ) -> None:
        self.notices: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.mode = mode
        self._folder = folder.parent if folder.name == "wandb" else folder  # W&B makes its own folder "wandb" inside
        self._about, self._config = about, config
        self._step = 2 * recorded
        """Of the next record. Those between are for what comes between records: no session takes one of another."""
        self._init_s, self._finish_s = init_s, FINISH_S if finish_s is None else finish_s
        self._hosts = set[str]()
        self._frames = 0.0
        self._queue: queue.Queue[Callable[[Any], None] | None] = queue.Queue(maxsize=10_000)
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Queues the finite metrics and returns at once; a full queue drops what it has held longest."""
        finite = {k: float(v) for k, v in metrics.items() if math.isfinite(v)}
        self._frames = finite.get("env_frames", self._frames)
        hosts = self._hosts | set(by_machine(metrics))
        if hosts != self._hosts:
            self._hosts = hosts
            self._put(lambda run: run.config.update({"hosts": sorted(hosts)}, allow_val_change=True))
        self._put(lambda run: self._record(run, finite))

    def film(self, path: Path) -> None:
        """Queues the GIF of an evaluation's game. Raises `OSError` where it cannot be read."""
        content, frames = path.read_bytes(), self._frames

        def show(run: Any) -> None:
            import wandb

            self._show(run, "eval/video", wandb.Video(io.BytesIO(content), path.stem, format="gif"), frames)

        self._put(show)

    def summarize(self, values: Mapping[str, Any]) -> None:
        """Queues values for the run's summary."""
        self._put(lambda run: run.summary.update(values))

    def finished(self, scores: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        """Queues what a run came to.

        Args:
            scores: of the final evaluation: a table of its `returns`, and the rest for the summary.
            checkpoint: a folder, to be kept as an artifact.
        """
        frames = self._frames
        self.summarize({f"final/{name.removeprefix('eval/')}": v for name, v in scores.items() if name != "returns"})

        def show(run: Any) -> None:
            import wandb

            if returns := scores.get("returns"):
                table = wandb.Table(columns=["episode", "return"], data=[[i, float(r)] for i, r in enumerate(returns)])
                self._show(run, "final/returns", table, frames)
            if checkpoint is not None:
                metadata = {"env_frames": frames, "checkpoint": checkpoint.name}
                kept = wandb.Artifact(f"checkpoint-{self._about.id}", "model", metadata=metadata)
                kept.add_dir(str(checkpoint), skip_cache=True, policy="immutable")  # read where it is, not copied first
                run.log_artifact(kept, aliases=["best"])

        self._put(show)

    def close(self, wait_s: float | None = None) -> None:
        """Finishes the run, or gives up after `wait_s` (or `init_s + finish_s`); what is then missing lies on disk."""
        self._put(None)
        self._thread.join(self._init_s + self._finish_s if wait_s is None else wait_s)
        if self._thread.is_alive():
            self.notices.put(self._rest())

    @property
    def sync(self) -> str:
        """The command that uploads what lies on disk, of all sessions of the run."""
        return f"wandb sync {shlex.quote(str(self._folder / 'wandb'))}/*run-*-{self._about.id}*"

    def _rest(self) -> str:
        return f"W&B did not finish in time: `{self.sync}` uploads the rest"

    def _put(self, item: Callable[[Any], None] | None) -> None:
        while self.mode != "disabled" or item is None:
            try:
                self._queue.put_nowait(item)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._queue.get_nowait()

    def _record(self, run: Any, metrics: dict[str, float]) -> None:
        run.log(metrics, step=self._step, commit=True)
        self._step += 2

    def _show(self, run: Any, name: str, shown: Any, frames: float) -> None:
        """Something to look at, on the step before the next record."""
        run.log({name: shown, "env_frames": frames}, step=self._step - 1, commit=False)

    def _work(self) -> None:
        if self.mode == "online" and not logged_in():
            self._step_down("no login (`wandb login`)")
        run = None
        while run is None and self.mode != "disabled":
            try:
                run = self._start()
            except Exception as error:
                self._step_down(str(error))
        if run is not None:
            self._step = max(self._step, run.step)
            if self.mode == "online":
                self.notices.put(f"W&B: {run.url}")
        while (act := self._queue.get()) is not None:
            try:
                if run is not None:
                    act(run)
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
        about = self._about
        try:
            run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "distdqn"),
                id=about.id,
                name=about.name,
                group=about.group or None,
                job_type=about.job_type,
                tags=list(about.tags) or None,
                config=self._config,
                resume="allow" if self.mode == "online" else None,
                dir=str(self._folder),
                mode=mode,
                reinit="create_new",
                settings=wandb.Settings(**plain, init_timeout=self._init_s, finish_timeout=self._finish_s),
            )
            run.define_metric("*", step_metric="env_frames")
            run.config.update(scheduled(), allow_val_change=True)  # other ones after a requeue
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
