"""The door `distdqn train`: Hydra's command line in front of a run, or of a sweep of runs."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from distdqn.config import ConfigError, RunConfig
from distdqn.run_folder import RunFolder, RunFolderError

BAD_INPUT = 2
WITH_KEYS = ("train", "pretrain", "resume", "bench", "scale", "launch")
"""Doors that take KEY=VALUE."""
DOORS = (*WITH_KEYS, "evaluate", "record", "plot", "doctor")


def exit_code(run: Callable[[], int]) -> int:
    """That of `run`; what was asked for wrongly is said in one line."""
    try:
        return run()
    except (ConfigError, RunFolderError) as error:
        from distdqn.config.resolved import as_typed_text

        print(f"distdqn: {as_typed_text(str(error))}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("distdqn: interrupted", file=sys.stderr)
        return 1


def add_options(door: argparse.ArgumentParser) -> None:
    """Hydra's own options, which go on to Hydra as they are; here they are told from what nobody knows."""
    door.add_argument("--keys", action="store_true", help="print every key, its default and its meaning, and leave")
    again = "goes on with the run in run_dir where it is this one: one command for a scheduler that starts jobs again"
    door.add_argument("--or-resume", action="store_true", help=again)
    door.add_argument("--config-dir", "-cd", metavar="DIR", help="groups of your own: DIR/experiment/mine.yaml")
    door.add_argument("--resolve", action="store_true", help="with --cfg: interpolations as what they stand for")
    door.add_argument("--package", "-p", metavar="KEY", help="with --cfg: only this part")
    one = door.add_mutually_exclusive_group()
    one.add_argument("--multirun", "-m", action="store_true", help="a run for each combination of seed=1,2 and so on")
    one.add_argument("--cfg", "-c", choices=("job", "hydra", "all"), help="print the composed config and leave")
    info = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    composed = f"how it was composed: {', '.join(info)}"
    one.add_argument("--info", "-i", nargs="?", const="all", choices=info, metavar="WHAT", help=composed)
    one.add_argument("--hydra-help", action="store_true", help="what Hydra knows beyond this")
    completion = 'eval "$(distdqn -sc install=bash)" completes keys'
    one.add_argument("--shell-completion", "-sc", action="store_true", help=completion)


def train(known: argparse.Namespace, overrides: list[str]) -> int:
    """Trains, or shows what the options ask for. Gives the exit code, of a sweep the worst.

    Raises `ConfigError`: one line that names the key and what is allowed; of a run in a sweep it is said, not raised.
    """
    if known.keys:
        from distdqn.config.keys import text

        print(text())
        return 0
    if known.shell_completion and "COMP_LINE" in os.environ and not _complete():
        return 0
    from distdqn.config.compose import command_line

    switches = ("multirun", "resolve", "hydra_help", "shell_completion")
    flags = [f"--{name.replace('_', '-')}" for name in switches if getattr(known, name)]
    valued = {"config-dir": known.config_dir, "package": known.package, "cfg": known.cfg, "info": known.info}
    flags += [f"--{name}={value}" for name, value in valued.items() if value]
    runs: list[Path] = []

    def run(made: Callable[[], RunConfig]) -> tuple[int, float | None]:
        def one() -> int:
            config = made()
            runs.append(Path(config.run_dir))
            return _run(config, known.or_resume)

        code = exit_code(one)
        return code, _score(runs[-1]) if runs else None

    code = command_line(flags, overrides, run)
    if len(runs) > 1:
        from distdqn.record.console import make_console
        from distdqn.report.results import show

        show([run for run in runs if run.exists()], make_console())
    return code


def _score(run_dir: Path) -> float | None:
    """The mean return of a run's last evaluation, which a sweeper that searches makes larger or smaller."""
    try:
        return float(json.loads((run_dir / "summary.json").read_text())["eval/return_mean"])
    except (OSError, ValueError, KeyError):
        return None


def _complete() -> bool:
    """True where Hydra completes the line in COMP_LINE, from which the door is then taken: it knows of none."""
    program, _, line = os.environ["COMP_LINE"].partition(" ")
    door, *words = line.lstrip().split(" ")
    if not words:
        print(" ".join(name for name in DOORS if name.startswith(door)))
    if door == "resume":
        words = words[1:]
    os.environ["COMP_LINE"] = " ".join([program, *words])
    return bool(words) and door in WITH_KEYS


def _run(config: RunConfig, or_resume: bool) -> int:
    from distdqn.envs.registry import check_env
    from distdqn.runtime.preflight import check

    config = _absolute(config)
    if or_resume:
        from distdqn.config.stored import refuse_another_run

        if config.named_by_chance:
            raise ConfigError("run_dir: --or-resume has to be told where the run is, or will be")
        if RunFolder.holds_a_run(config.run_dir):
            refuse_another_run(config.run_dir, config)
            return go_on(config)
    spec = check_env(config.env)
    if not (config.named_by_chance and Path(config.run_dir).exists()):  # then the next name is as good
        RunFolder.check(config.run_dir)
    check(config, spec)
    from distdqn.runtime.run import train

    return train(config, spec)


def go_on(config: RunConfig) -> int:
    """Goes on with the run in `config.run_dir`. Gives the exit code; raises as `train` does."""
    from distdqn.config.stored import refuse_another_environment
    from distdqn.envs.registry import check_env
    from distdqn.runtime.preflight import check, check_resume

    refuse_another_environment(config.run_dir, config)
    spec = check_env(config.env)
    RunFolder.check(config.run_dir, resume=True)
    check(config, spec)
    check_resume(config, spec)
    from distdqn.runtime.run import resume

    return resume(config, spec)


def _absolute(config: RunConfig) -> RunConfig:
    """Ray's workers do not share this process's working directory."""
    agent, pretrained = config.agent, config.agent.network.torso.pretrained
    if pretrained:
        torso = replace(agent.network.torso, pretrained=str(Path(pretrained).absolute()))
        agent = replace(agent, network=replace(agent.network, torso=torso))
    return replace(config, agent=agent, run_dir=str(Path(config.run_dir).absolute()))
