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

A bad name, key or value is one line, with exit code 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rich.console import Console

from distdqn.bench.main import write
from distdqn.bench.options import above_zero, output_file
from distdqn.bench.table import make_console
from distdqn.bench.whole import throwaway
from distdqn.config import ConfigError
from distdqn.config.compose import compose
from distdqn.runtime.run import make_engine
from tests.laboratory import agents, memory, peer

EXAMPLES = """examples:
  launch/laboratory.sh agents --seconds 10 c51 rainbow learner.compile=off
  launch/laboratory.sh peer --seconds 20 env.game=breakout
  launch/laboratory.sh memory --minutes 20 replay.capacity=100000
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
    for run, flag, default, help in (
        (_agents, "--seconds", 5.0, "for the acting and for the learning of each agent (default: 5)"),
        (_peer, "--seconds", 10.0, "for each turn (default: 10)"),
        (_memory, "--minutes", 10.0, "to watch (default: 10)"),
    ):
        experiment = experiments.add_parser(run.__name__[1:], epilog=EXAMPLES, formatter_class=raw)
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


def _peer(overrides: list[str], seconds: float, console: Console) -> dict[str, Any]:
    with throwaway(peer.peer_config(overrides)) as (config, spec):
        engine = make_engine(config, spec)
        try:
            with console.status("distdqn and Stable-Baselines3's DQN in turn"):
                found = peer.compare(config, spec, engine, seconds)
        finally:
            engine.close()
    peer.show(config, found, console)
    return peer.figures(found)


def _memory(overrides: list[str], minutes: float, console: Console) -> dict[str, Any]:
    with throwaway(compose(overrides)) as (config, spec):
        engine = make_engine(config, spec)
        try:
            with console.status("filling the replay, then watching"):
                found = memory.watch(config, spec, engine, minutes)
        finally:
            engine.close()
    memory.show(config, found, console)
    return memory.figures(found)


if __name__ == "__main__":
    sys.exit(main())
