"""From a command line to a checked config, through Hydra: its groups, its sweeps and its own flags."""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from distdqn.config import AgentConfig, ConfigError, RunConfig, from_mapping, to_mapping
from distdqn.config.keys import conf_dir, experiments
from distdqn.config.overrides import parse
from distdqn.config.renamed import RENAMED
from distdqn.config.resolved import as_config_error, resolve
from distdqn.config.run import played
from distdqn.machine import cuda_devices, in_ray_job, inspect

STOPPED = (1, 3)
"""Exit codes of a run after which a sweep does not begin the next one: it failed, or was told to stop."""
WORST = (0, 3, 2, 1)
_RUN_DIR = "${run_dir:${name}}"
"""Where nobody says anything else."""


def compose(overrides: Sequence[str], config_dir: str | None = None) -> RunConfig:
    """The config that Hydra makes of `overrides`, with groups of one's own in `config_dir`, resolved and checked.
    Raises `ConfigError`, which names the key."""
    texts = _prepare(overrides, sweep=False)
    texts += [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"] if config_dir else []
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            values = hydra.compose("config", texts, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _one_line(error) from None
    HydraConfig.instance().set_config(values)  # as `command_line` has it: a name is that of a choice
    with open_dict(values):
        del values["hydra"]
    return _checked(values)


Run = Callable[[Callable[[], RunConfig]], tuple[int, float | None]]
"""Runs what it is given the config of; its exit code and, for a sweeper that searches, its score."""


class _Ended(Exception):
    """A run in another process ended with this exit code, not 0."""


class _Job:
    """What Hydra calls for each run. A launcher that somebody has installed may do so in other processes, where what
    the YAML files refer to is made known anew.

    Attributes:
        codes: exit codes so far, of this process.
    """

    def __init__(self, run: Run, overrides: list[str], sweep: bool) -> None:
        self.run, self.overrides, self.sweep = run, overrides, sweep
        self.codes, self.home = [0], os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        _make_known(self.overrides, self.sweep)

    def __call__(self, values: DictConfig) -> float | None:
        score, here = None, os.getpid() == self.home
        if here and set(self.codes) & set(STOPPED):
            return score
        self.codes.append(1)  # until it is done
        try:
            self.codes[-1], score = self.run(lambda: _checked(values))
        except Exception:  # said here, since Hydra would put its own words and frames above it
            traceback.print_exc()
        if not here and self.codes[-1]:
            raise _Ended(self.codes[-1])
        return score


def command_line(flags: Sequence[str], overrides: Sequence[str], run: Run) -> int:
    """Does what Hydra's command line would: composes and runs, sweeps, or shows what `flags` ask for. Returns the exit
    code, of a sweep the worst. Raises `ConfigError`: one line that names the key and what is allowed.

    Args:
        flags: Hydra's own, such as `--multirun` or `--cfg=job`.
        run: called once for each job of a sweep.
    """
    sweep = "--multirun" in flags or "hydra.mode=MULTIRUN" in overrides
    complete = "--shell-completion" in flags  # then what follows is no override
    keys = [] if complete else list(overrides)
    texts = [*_prepare(keys, sweep), *(overrides if complete else [])]
    job, argv = _Job(run, keys, sweep), sys.argv
    sys.argv = [argv[0], *flags, *texts]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions come here as they are
    try:
        hydra.main(str(conf_dir()), "config", version_base="1.3")(job)()
    except _Ended as error:
        job.codes.append(error.args[0])
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _one_line(error) from None
    finally:
        sys.argv = argv
    return max(job.codes, key=WORST.index)


def _prepare(overrides: Sequence[str], sweep: bool) -> list[str]:
    """`overrides` as Hydra is given them: a key is free to be new, since `from_mapping` knows them all. What the YAML
    files refer to is made known."""
    _make_known(overrides, sweep)
    texts = []
    for text in overrides:
        override = parse(text, sweep)
        key, value = override.key_or_group, override.value()
        if key in RENAMED and not isinstance(value, dict):
            raise ConfigError(f"{key}: is now {RENAMED[key]}")
        if "/" in key or override.is_hydra_override() or override.package or (conf_dir() / key).is_dir():
            named = value is not None and not isinstance(value, (bool, int, float))
            texts.append(text if named or override.is_delete() else f"{key}='{value}'")  # a choice that is not there
        else:
            texts.append(text if override.is_delete() else f"++{text.lstrip('+')}")
    return texts


def _make_known(overrides: Sequence[str], sweep: bool) -> None:
    """Registers what the YAML files refer to, which depends on what `overrides` say."""
    values = {o.key_or_group: o.value() for o in (parse(text, sweep) for text in overrides)}
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")

    def run_dir(name: str) -> str:
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            return f"{HydraConfig.get().runtime.output_dir}/{name}"
        return f"runs/{name}-{stamp}"

    def name(*, _root_: DictConfig) -> str:
        """The experiment's, and what else is played or learned where the command line says so."""
        parts = [HydraConfig.get().runtime.choices.get("experiment") or "run"]
        typed: Any = OmegaConf.to_container(_root_)  # nothing of the environment gets into a name
        if values.keys() & {"env", "env.kind", "env.game", "env.id"}:
            parts.append(played(SimpleNamespace(**typed["env"])))
        if "agent" in values and isinstance(typed["agent"], dict):
            parts.append(str(typed["agent"]["name"]))
        return "-".join(part for part in dict.fromkeys(parts) if "{" not in part)

    resolvers: dict[str, Callable[..., Any]] = {
        "name": name,
        "segment": _segment,
        "form": lambda *, _root_: _root_.get("form") or _best_form(values),
        "cores": lambda: inspect().cores,
        "share": lambda whole, parts: max(1, int(whole) // int(parts)),
        "at_most": min,
        "run_dir": run_dir,
        "cluster": lambda *, _root_: "auto" if in_ray_job() and _root_.engine.kind == "ray" else None,
    }
    for key, resolver in resolvers.items():
        OmegaConf.register_new_resolver(key, resolver, replace=True)
    base = to_mapping(RunConfig()) | {"name": "${name:}", "run_dir": _RUN_DIR}
    base["engine"]["address"] = "${cluster:}"  # a job of a cluster would start a second one inside it
    base["actors"]["rollout_steps"] = f"${{segment:{base['actors']['rollout_steps']}}}"
    ConfigStore.instance().store("base", base)


def _segment(least: int, *, _root_: DictConfig) -> int:
    """`actors.rollout_steps`: `least`, or what a window of the agent needs, in whole strides."""
    with suppress(ConfigError, OmegaConfBaseException):  # what is wrong with the agent is said with all the rest
        plain: Any = OmegaConf.to_container(_root_.agent, resolve=True)
        agent = from_mapping(AgentConfig, plain)
        return -(-max(least, agent.window) // agent.sequence.stride) * agent.sequence.stride
    return least


def _best_form(values: dict[str, Any]) -> str:
    """The form for what the engine will have, by what the command line says of it."""
    joins = in_ray_job() and values.get("engine", values.get("engine.kind", "ray")) == "ray"
    if values.get("engine.address", joins):
        return "cluster"
    device = str(values.get("learner.device", "auto"))
    return "gpu" if device.startswith("cuda") or (device == "auto" and cuda_devices()) else "cores"


def _checked(values: DictConfig) -> RunConfig:
    plain, typed = resolve(values)
    by_chance = OmegaConf.to_container(values).get("run_dir") == _RUN_DIR  # type: ignore[union-attr]
    told = HydraConfig.get().overrides.hydra if HydraConfig.get().mode == RunMode.MULTIRUN else ()
    by_chance = by_chance and not any(text.startswith("hydra.sweep.dir=") for text in told)
    config = from_mapping(RunConfig, plain).on(inspect().cores)
    if HydraConfig.get().mode == RunMode.MULTIRUN and not config.track.group:
        config = replace(config, track=replace(config.track, group=sweep_name(Path(HydraConfig.get().sweep.dir))))
    return replace(config, typed=typed, named_by_chance=by_chance)


def sweep_name(folder: Path) -> str:
    """What the runs of the sweep in `folder` are grouped by: its day and its time."""
    return "-".join(folder.absolute().parts[-2:])[-64:]


def _one_line(error: Exception) -> ConfigError:
    if isinstance(error, MissingConfigException) and error.options:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        there = f"; experiment={choice} is there" if choice in experiments() else ""
        there = f"; a class of one's own is {group}.kind={choice}" if ":" in choice else there
        return ConfigError(f"{group}={choice}: must be one of {', '.join(error.options)}{there}")
    return as_config_error(error)
