"""The laboratory: what the house is measured by and no user of the package needs.

`launch/laboratory.sh EXPERIMENT ...` sets up what an experiment needs and runs it. KEY=VALUE are the overrides of
`distdqn train`, which hold for all that is measured; `--out FILE.json` writes the figures too.

agents [--seconds S] [NAME ...] [KEY=VALUE ...]
    How fast each agent acts and learns on Atari, in turns with `dqn_2015`, so that both see the same machine.
    Without names, every agent that there is.
peer [--seconds S] [KEY=VALUE ...]
    Stable-Baselines3's DQN in turns with distdqn, on equal terms. Needs the extra `bench`.
memory [--minutes M] [KEY=VALUE ...]
    The processes' resident memory once the replay is full: growth that goes on is a leak.
faults [--cells N] [WHOM|HOW ...] [seed=S]
    Real runs, each disturbed once: whom (actor, actors, shard, shards, learner, evaluator, driver, raylet; node,
    "learner's node", head of a cluster; disk, W&B) x how (SIGKILL, SIGSTOP, ..., exception, hang, "crash loop",
    memory) x when, drawn by chance. What is left is looked at: exit codes, accounts, checkpoints, processes.
gpu [--seconds S] [run_dir=DIR] [KEY=VALUE ...]
    All that wants a GPU, in turn: the CUDA tests, emulators on more and more cores, benchmarks, Pong, and Breakout with
    Ape-X's settings. `launch/gpu_check.sh` runs it; learner.device=cpu rehearses it.
soak [--minutes M] [seed=S]
    A run in which some component is killed every 30 seconds: what grows, and what it scores.

A bad name, key or value is one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from distdqn.bench.main import write
from distdqn.bench.whole import throwaway
from distdqn.cli import above_zero, output_file
from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.record.console import make_console
from distdqn.runtime.engine import Engine
from distdqn.runtime.run import make_engine
from distdqn.types import EnvSpec
from tests.laboratory import agents, campaign, gpu, memory, peer, soak
from tests.laboratory.cells import cells

EXAMPLES = """examples:
  launch/laboratory.sh agents --seconds 10 c51 rainbow learner.compile=off
  launch/laboratory.sh peer --seconds 20 env.game=breakout
  launch/laboratory.sh memory --minutes 20 replay.capacity=100000
  launch/laboratory.sh faults --cells 20 shard driver seed=3
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"laboratory: {message}", file=sys.stderr)
        sys.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs an experiment; gives the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser("laboratory", description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    experiments = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for run, flag, default, terms, help in (
        (_agents, "--seconds", 5.0, "[NAME ...] ", "for the acting and for the learning of each agent (default: 5)"),
        (_peer, "--seconds", 10.0, "", "for each turn (default: 10)"),
        (_memory, "--minutes", 10.0, "", "to watch (default: 10)"),
        (_faults, "--cells", 12.0, "[WHOM|HOW ...] ", "of the matrix (default: 12)"),
        (_gpu, "--seconds", 540.0, "", "for all of it (default: 540)"),
        (_soak, "--minutes", 60.0, "", "to go on for (default: 60)"),
    ):
        name = run.__name__[1:]
        usage = f"launch/laboratory.sh {name} [{flag} {flag[2].upper()}] [--out FILE.json] {terms}[KEY=VALUE ...]"
        experiment = experiments.add_parser(name, usage=usage, epilog=EXAMPLES, formatter_class=raw)
        experiment.add_argument(flag, dest="time", type=above_zero, default=default, metavar=flag[2].upper(), help=help)
        experiment.add_argument("--out", type=output_file, metavar="FILE.json", help="write the figures too")
        experiment.set_defaults(run=run)
    known, rest = parser.parse_known_args(arguments)
    try:
        write(known.run(rest, known.time, make_console()), known.out)
    except ConfigError as error:
        parser.error(str(error))
    except TimeoutError as error:
        print(f"laboratory: {error}", file=sys.stderr)
        return 1
    return 0


def _agents(terms: list[str], seconds: float, console: Console) -> dict[str, Any]:
    overrides = [term for term in terms if "=" in term or term.startswith("~")]
    return agents.compare(agents.named([t for t in terms if t not in overrides]), overrides, seconds, console)


@contextmanager
def _started(config: RunConfig) -> Iterator[tuple[RunConfig, EnvSpec, Engine]]:
    """The config with a folder that is gone afterwards, what it plays, and its engine."""
    with throwaway(config) as (ready, spec):
        engine = make_engine(ready, spec)
        try:
            yield ready, spec, engine
        finally:
            engine.close()


def _peer(overrides: list[str], seconds: float, console: Console) -> dict[str, Any]:
    config = peer.peer_config(overrides)
    with _started(config) as system, console.status("distdqn and Stable-Baselines3's DQN in turn"):
        found = peer.compare(*system, seconds)
    peer.show(config, found, console)
    return peer.figures(found)


def _memory(overrides: list[str], minutes: float, console: Console) -> dict[str, Any]:
    config = compose(overrides)
    with _started(config) as system, console.status("filling the replay, then watching"):
        found = memory.watch(*system, minutes)
    memory.show(config, found, console)
    return asdict(found)


def _faults(terms: list[str], number: float, console: Console) -> dict[str, Any]:
    whom = [term for term in terms if "=" not in term]
    known = dict.fromkeys([*(c.whom for c in cells()), *(c.how for c in cells())])
    if unknown := set(whom) - set(known):
        raise ConfigError(f"{min(unknown)}: must be one of {', '.join(known)}")
    return campaign.campaign(whom, int(number), _seed([term for term in terms if term not in whom]), console)


def _gpu(overrides: list[str], seconds: float, console: Console) -> dict[str, Any]:
    folder = next((t.partition("=")[2] for t in overrides if t.startswith("run_dir=")), "gpu-check")
    keys = ["learner.device=cuda", *(t for t in overrides if not t.startswith("run_dir="))]
    compose(["experiment=pong", *keys])  # what is wrong is said at once
    try:
        Path(folder).mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"run_dir={folder}: cannot be made ({error.strerror})") from error
    return gpu.Check(Path(folder).absolute(), seconds, keys).run(console)


def _soak(terms: list[str], minutes: float, console: Console) -> dict[str, Any]:
    return soak.soak(minutes, 30.0, _seed(terms), console)


def _seed(terms: list[str]) -> int:
    seed = "0"
    for term in terms:
        key, _, seed = term.partition("=")
        if key != "seed" or not seed.isdecimal():
            raise ConfigError(f"{term}: only seed=NUMBER may be given here")
    return int(seed)


if __name__ == "__main__":
    sys.exit(main())
