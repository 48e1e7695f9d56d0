"""The same config on more and more machines of a real cluster, run after run."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.run_folder import RunFolder
from distdqn.runtime.preflight import check
from distdqn.runtime.run import BAD_INPUT, make_engine
from distdqn.scale.measured import measured, seconds, time_to, window
from distdqn.scale.outcome import Outcome
from distdqn.scale.simulation import NEVER, at_nodes

LOOK_EVERY = 1.0
"""Seconds between two looks at the metrics of a run, at the least."""
LEAVE_SECONDS = 120.0
"""A run that is told to end may take so long to save."""
AGAIN = "again"


class TrialFailed(RuntimeError):
    """A run of the experiment ended before it was measured; the message is one line."""


@dataclass(frozen=True)
class Method:
    """How runs are measured: for `seconds`, `warm_up` seconds after learning began, `repeats` times. `strong`: the same
    actors and shards on more machines; else each machine brings those that the config says. `score`: runs go on until
    an evaluation reaches it."""

    seconds: float = 60.0
    warm_up: float = 30.0
    repeats: int = 2
    strong: bool = False
    score: float | None = None


@dataclass(frozen=True)
class Trial:
    """One run: on how many machines, for the which time, and what it did."""

    nodes: int
    label: str
    outcome: Outcome
    to_score: float | None = None


class Experiment:
    """Runs of `distdqn train`, one after the other, each in a folder of its own in the config's `run_dir`; those that
    have been measured there already are not run again.

    Args:
        overrides: the config, without the number of machines.
        counts: numbers of machines, the smallest first.
    Raises:
        ConfigError: no cluster is named, or it has too few machines or cores for one of the runs.
    """

    def __init__(self, overrides: Sequence[str], counts: Sequence[int], method: Method) -> None:
        self.method, self.counts, self._texts = method, counts, tuple(overrides)
        self.config = compose(overrides)
        if self.config.engine.address is None:
            which = f"nodes={','.join(map(str, counts))}"
            raise ConfigError(f"{which}: of a Ray cluster that engine.address names; --simulate pretends machines")
        if method.score is not None and self.config.evaluation.every_seconds is None:
            raise ConfigError("evaluation.every_seconds=null: must be a number, for a score to be reached")
        self.folder = Path(self.config.run_dir).absolute()
        if RunFolder.holds_a_run(self.folder):
            raise ConfigError(f"run_dir={self.config.run_dir}: must be a folder for several runs, that is one run's")
        self._rehearse()

    def _rehearse(self) -> None:
        """What cannot be is said before the first run."""
        spec, there = check_env(self.config.env), 0
        configs = [compose(self._keys(nodes, self.config.seed, self.folder / "none")) for nodes in self.counts]
        for config in (self.config, *configs):  # the first, on all machines, finds out how many there are
            check(config, spec)
            engine = make_engine(config, spec)
            there = there or len(engine.rooms())
            engine.close()
            if there < self.counts[-1]:
                raise ConfigError(f"nodes={self.counts[-1]}: that cluster has {there} machines with CPUs")

    def _keys(self, nodes: int, seed: int, run: Path) -> list[str]:
        """The config of one run."""
        config, texts = self.config, list(self._texts)
        if not self.method.strong:
            count, config = config.actors.count, _of_each(config, nodes)
            texts += [f"actors.count={config.actors.count}"] if count != "auto" else []
            texts += [f"replay.shards={config.replay.shards}", f"replay.capacity={config.replay.capacity}"]
        if self.method.score is None:
            texts += ["evaluation.every_seconds=null", "budget.env_frames=null", "budget.updates=null"]
            texts.append(f"budget.seconds={NEVER:.0f}")
        texts += [f"engine.nodes={nodes}", f"seed={seed}", f"run_dir={run}", "evaluation.video=false", "screen=lines"]
        return [*texts, f"track.group={self.folder.name[-64:]}", "track.job_type=scale"]

    @property
    def trials(self) -> list[tuple[int, str]]:
        """Machines and name of each run; the smallest number comes once more at the end, to see whether the cluster is
        still what it was."""
        several = [(n, str(r + 1)) for r in range(self.method.repeats) for n in self.counts]
        return several + ([(self.counts[0], AGAIN)] if len(self.counts) > 1 else [])

    def run(self, say: Callable[[str], None]) -> Iterator[Trial]:
        """Makes the runs that are not there yet, and gives what each did. Raises `TrialFailed`; `ConfigError`, too."""
        if self.config.named_by_chance:
            self.folder = RunFolder.next_free(self.folder)
        for number, (nodes, label) in enumerate(self.trials):
            run = self.folder / f"nodes-{nodes}-{label}"
            if not self._enough(run):
                say(f"run {number + 1} of {len(self.trials)}, {nodes} machine{'s' * (nodes > 1)}: {run}")
                if run.exists():  # it was interrupted
                    shutil.rmtree(run)
                repeat = 0 if label == AGAIN else int(label) - 1
                self._train(run, self._keys(nodes, self.config.seed + repeat, run))
            reached = None if self.method.score is None else time_to(run, self.method.score)
            yield Trial(nodes, label, measured(run, self.method.warm_up, nodes), reached)

    def _enough(self, run: Path) -> bool:
        score = self.method.score
        if score is not None and time_to(run, score) is None and not (run / "summary.json").exists():
            return False
        return seconds(window(run, self.method.warm_up)) >= self.method.seconds

    def _train(self, run: Path, texts: list[str]) -> None:
        log = run.with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "distdqn.cli", "train", *texts]
        with open(log, "wb") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            while process.poll() is None:
                start = time.monotonic()
                if self._enough(run):
                    break
                time.sleep(max(LOOK_EVERY, 20 * (time.monotonic() - start)))  # the metrics of hours are long
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LEAVE_SECONDS)
                process.kill()
                process.wait()
        if not self._enough(run):
            line = next(iter(reversed(log.read_text(errors="replace").split("\n")[:-1])), "")
            if process.returncode == BAD_INPUT:
                raise ConfigError(line.removeprefix("distdqn: "))
            raise TrialFailed(f"{run} ended with {process.returncode} before it was measured ({line}); see {log}")


def _of_each(config: RunConfig, nodes: int) -> RunConfig:
    """Where each of `nodes` machines brings what `config` says."""
    if config.actors.count == "auto":  # they follow the machines by themselves
        config = replace(config, actors=replace(config.actors, count=1))
    return at_nodes(config, nodes)
