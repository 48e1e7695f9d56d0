"""A run from its config to its exit code: folder, engine, components, signals."""

import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType

from distdqn import checkpoint
from distdqn.config import ConfigError, RunConfig
from distdqn.config.stored import config_yaml
from distdqn.machine import cuda_devices, inspect
from distdqn.record.recorder import Recorder
from distdqn.run_folder import RunFolder, RunFolderError
from distdqn.runtime.components import GivenUp, RunFailed
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.engine import Engine, EngineFailed, Needs, NoAnswer
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.placing import Plan, plan
from distdqn.runtime.preflight import object_store_bytes, pytorch_uses_gpu
from distdqn.runtime.rollcall import call_roll
from distdqn.runtime.roster import Roster
from distdqn.types import EnvSpec, State

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 3
"""Exit codes: done; anything else; bad input; stopped early but resumable."""
SAVE_SECONDS, FINAL_SECONDS = 15.0, 3600.0
MOMENT_SECONDS = 1.0
"""Signals within it are one."""
NOT_USED = "the GPU of this machine is not used: this PyTorch cannot (`distdqn doctor`)"


def make_engine(config: RunConfig, spec: EnvSpec) -> Engine:
    """The engine that `engine.kind` names, with room for every component."""
    if config.engine.kind == "local":
        from distdqn.runtime.local import LocalEngine

        return LocalEngine()
    if config.engine.address is None:  # read when Ray is imported: its ports are for this machine alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    from distdqn.runtime.ray import RayEngine

    cpus, gpus = Roster.cpus_of(config), learner_gpus(config)
    if config.engine.address is None:
        cpus = max(cpus, inspect().cores)
    threads = (config.actors.threads, config.evaluation.threads)
    needs = [Needs(config.learner.threads, gpus), *(Needs(n) for n in threads)]
    store = object_store_bytes(config, spec)
    cluster = config.engine
    return RayEngine(cluster.address, cpus, int(gpus), store, needs, cluster.unauthenticated, cluster.nodes)


def learner_gpus(config: RunConfig) -> float:
    """GPUs that the learner asks of the engine; whether it gets one with `auto` in a cluster is for its machines to
    say (`placing`)."""
    if config.learner.device != "auto":
        return float(config.learner.device.startswith("cuda"))
    return float(config.engine.address is None and pytorch_uses_gpu())


def train(config: RunConfig, spec: EnvSpec) -> int:
    """Makes the run's folder, of a name not yet taken where nobody chose one, and trains in it. Gives the exit code.

    Raises:
        ConfigError: the cluster cannot be joined or is too small; then no folder is made.
    """
    with _Signals() as signals:
        joined = _join(config, spec, signals)
        if config.named_by_chance:
            config = replace(config, run_dir=str(RunFolder.next_free(config.run_dir)))
        with RunFolder.create(config.run_dir, config_yaml(config)) as folder:
            return _run(config, spec, folder, None, joined, signals)
    return STOPPED


def resume(config: RunConfig, spec: EnvSpec) -> int:
    """Goes on with the run in `config.run_dir` from its newest checkpoint that is whole, from the beginning where none
    was saved yet. Gives the exit code.

    Raises:
        ConfigError: there are checkpoints, and none can be read.
    """
    with _Signals() as signals, RunFolder.open(config.run_dir) as folder:
        joined = _join(config, spec, signals)
        checkpoint.recover(folder.checkpoints)
        found = checkpoint.newest_valid(folder.checkpoints)
        if found is None and checkpoint.names(folder.checkpoints):
            raise ConfigError(f"{folder.path}: no checkpoint there can be read")
        path, state, damaged = found or (None, None, [])
        for line in damaged:
            print(f"skipped: {line}")
        print(f"resuming from {path.name}" if path else "no checkpoint yet, starts from the beginning")
        folder.rewrite_config(config_yaml(config))
        return _run(config, spec, folder, state, joined, signals)
    return STOPPED


def _join(config: RunConfig, spec: EnvSpec, signals: "_Signals") -> tuple[Engine | None, Plan]:
    """The engine of a cluster that is there already, None where the run starts its own; and who is to be where."""
    if config.engine.kind != "ray" or config.engine.address is None:
        gpus, idle = learner_gpus(config), config.learner.device == "auto" and cuda_devices() > 0
        return None, Plan(gpus, remark=NOT_USED if idle and not gpus else "")
    with signals.starting():
        engine = make_engine(config, spec)
    signals.take()  # anew: Ray has put a handler of its own in their place
    try:
        return engine, plan(config, spec, engine.rooms(), call_roll(engine, config, spec))
    except NoAnswer as error:
        engine.close()
        raise ConfigError(f"engine.address={config.engine.address}: {error}") from error
    except BaseException:
        engine.close()
        raise


def _run(
    config: RunConfig,
    spec: EnvSpec,
    folder: RunFolder,
    state: State | None,
    joined: tuple[Engine | None, Plan],
    signals: "_Signals",
) -> int:
    engine, places = joined
    run_id = int(state["run_id"]) if state else secrets.randbits(62)
    session = int(state["session"]) + 1 if state else 0
    recorder = Recorder(folder, config)
    if state:
        recorder.restore(state["recorder"])

    def extra() -> State:
        return {"run_id": run_id, "session": session, "recorder": recorder.state()}

    keeper = Keeper(folder, config, spec, extra, recorder.event, recorder.film)
    outcome = "failed"
    coordinator: Coordinator | None = None

    def sum_up(outcome: str) -> bool:
        count = coordinator.system.progress.count if coordinator else {}
        accounts = {"transitions": {k: count[k] for k in ("emitted", "stored", "dropped", "lost")}} if count else {}
        return folder.ours and recorder.summary({"outcome": outcome, **keeper.final, **accounts})

    try:
        recorder.event("starting" if not state else "resuming")
        if engine is None:
            with signals.starting():
                engine = make_engine(config, spec)
        signals.take()  # anew, as in `_join`
        if places.remark:
            recorder.event(places.remark)
        roster = Roster(config, spec, engine, run_id, session, places.gpus, places.home, places.beside)
        coordinator = Coordinator(config, engine, roster, keeper, recorder.record, recorder.event)
        signals.coordinator = coordinator
        if state:
            coordinator.start(state["learner"], state["counters"], recorder.last)
        else:
            coordinator.start()
        if not coordinator.started:
            raise _Stopped
        recorder.event("running")
        done = coordinator.run()
        recorder.event("final evaluation" if done else "stopping: saving a checkpoint")
        whole = coordinator.finish(evaluate=done, timeout=FINAL_SECONDS if done else SAVE_SECONDS)
        outcome = "done" if done and whole and sum_up("done") else "stopped"
        if outcome == "done":
            recorder.finished(keeper.final.get("final_evaluation", {}), keeper.best())
        return DONE if outcome == "done" else STOPPED
    except GivenUp as error:
        recorder.event(f"given up: {error}")
        _save(coordinator)
        print(f"distdqn: {error}", file=sys.stderr)
        outcome = "stopped"
        return STOPPED
    except (RunFailed, EngineFailed, RunFolderError) as error:
        recorder.event(f"failed: {error}")
        print(f"distdqn: {error}", file=sys.stderr)
        return FAILED
    except _Stopped:
        recorder.event("stopped before it began")
        outcome = "stopped"
        return STOPPED
    except Exception:
        _save(coordinator)
        raise
    finally:
        keeper.close()
        if outcome == "stopped":
            recorder.event(keeper.where_a_resume_goes_on())
        if outcome != "done":
            sum_up(outcome)
        recorder.close(hurry=outcome == "stopped")
        if engine is not None:
            engine.close()


def _save(coordinator: Coordinator | None) -> None:
    """What is left to do for a run that cannot go on."""
    if coordinator is not None and coordinator.started:
        with suppress(Exception):
            coordinator.finish(evaluate=False, timeout=SAVE_SECONDS)


class _Stopped(BaseException):
    """A signal came before there was anything to save."""


class _Signals:
    """The first SIGINT, SIGTERM or SIGHUP ends the run, after saving where there is something to save, the second ends
    it at once, also while things are being closed. What is under `with` ends silently where there is nothing yet.

    What comes within a moment is the same one: a scheduler tells a job's shell, which tells us, and us, too."""

    def __init__(self) -> None:
        self.coordinator: Coordinator | None = None
        self._came: float | None = None
        old = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        self._old = {s: handler for s, handler in old.items() if handler != signal.SIG_IGN}  # as nohup asks for
        self.take()

    def take(self) -> None:
        """Handles them from now on."""
        for number in self._old:
            signal.signal(number, self._handle)

    def __enter__(self) -> "_Signals":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> bool:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        return kind is _Stopped

    @contextmanager
    def starting(self) -> Iterator[None]:
        """What a signal interrupts here, in Ray's C++ code, may say so in whatever way: it is `_Stopped`."""
        try:
            yield
        except Exception:
            if self._came is not None:
                raise _Stopped from None
            raise

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._came is not None:
            if now - self._came > MOMENT_SECONDS:
                os._exit(STOPPED)
            return
        self._came = now
        if self.coordinator is None:
            raise _Stopped
        self.coordinator.stop = True
