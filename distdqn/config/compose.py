"""From command-line overrides to a checked config. With `cli`, the only importer of Hydra."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from distdqn.config import ConfigError, RunConfig, from_mapping, to_mapping
from distdqn.machine import cuda_devices, inspect


def conf_dir() -> Path:
    """The folder of YAML files: inside the package when installed, beside it in a checkout."""
    here = Path(__file__).resolve().parent.parent
    return here / "conf" if (here / "conf").is_dir() else here.parent / "conf"


def experiments() -> dict[str, str]:
    """Each experiment's name and the first line that says what it is."""
    found = {}
    for path in sorted((conf_dir() / "experiment").glob("*.yaml")):
        comments = [x[2:].strip() for x in path.read_text().splitlines() if x.startswith("# ") and "@package" not in x]
        found[path.stem] = comments[0] if comments else ""
    return found


def compose(overrides: Sequence[str]) -> RunConfig:
    """The config that Hydra makes of `overrides`, resolved and checked.

    Raises:
        ConfigError: one line that names the key and what is allowed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    base = to_mapping(RunConfig())
    allowed = ", ".join(sorted({*base, "experiment"}))
    for text in overrides:
        key, equals, _ = text.lstrip("+~").partition("=")
        if not (equals or text.startswith("~")) or not key:
            raise ConfigError(f"{text}: not an override, write key=value (distdqn train --help shows examples)")
        if re.match(r"hydra\b", key):  # nothing here reads it
            raise ConfigError(f"{key}: unknown key, allowed here: {allowed}")
    base["run_dir"] = "runs/${name}-${stamp:}"
    base["actors"]["count"] = "${cores:}"
    ConfigStore.instance().store(name="base", node=base)
    _register_resolvers(OmegaConf)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose("config", overrides=[*_whole_groups(overrides), *map(_open, overrides)])
            values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        line = _one_line(str(error), base)
        wrong = [o for o in overrides if "See https://hydra.cc" in line and not _parses(o)]
        raise ConfigError(f"{wrong[0]}: cannot be read as key=value" if wrong else line) from None
    assert isinstance(values, dict)
    values.pop("experiment", None)
    return from_mapping(RunConfig, {str(k): v for k, v in values.items()})


def _open(override: str) -> str:
    """What `env.kwargs` holds is the environment's own affair, so its keys need no + to be new."""
    return re.sub(r"^\+*(env\.kwargs\b)", r"++\1", override)


def _whole_groups(overrides: Sequence[str]) -> list[str]:
    """Overrides that take an `agent` or `env` whole where it replaces the experiment's own.

    An experiment's keys come after those of the groups it builds on. Put on top of another group they would
    silently undo half of what was asked for: `agent=mlp` would keep the experiment's convolutions.
    """
    import yaml

    choices = dict(x.split("=", 1) for x in overrides if re.fullmatch(r"(experiment|agent|env)=\w+", x))
    folder = conf_dir()
    own: dict[str, str] = {}
    lineage = [choices.pop("experiment", "pong")]
    for name in lineage:  # and those that it builds on
        experiment = folder / "experiment" / f"{name}.yaml"
        built_on = yaml.safe_load(experiment.read_text()).get("defaults", []) if experiment.is_file() else []
        own = {k.removeprefix("override /"): v for x in built_on if isinstance(x, dict) for k, v in x.items()} | own
        lineage += [x for x in built_on if isinstance(x, str) and x != "_self_"]
    found: list[str] = []
    for group, choice in choices.items():
        path = folder / group / f"{choice}.yaml"
        if choice != own.get(group) and path.is_file():
            values = yaml.safe_load(path.read_text())
            values.pop("defaults", None)
            found += ['++note=""', *_flat(values, group)]  # the note described what the experiment had
    return found


def _flat(values: dict[str, Any], key: str) -> list[str]:
    """Nested values as overrides; JSON's plain values and lists are written alike there."""
    found: list[str] = []
    for name, value in values.items():
        path = f"{key}.{name}"
        found += _flat(value, path) if isinstance(value, dict) else [f"++{path}={json.dumps(value)}"]
    return found


def _parses(override: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _register_resolvers(omegaconf: Any) -> None:
    def on_gpu(with_gpu: Any, without: Any, *, _root_: Any) -> Any:
        learner = _root_.get("learner")
        device = str(learner.get("device", "auto")) if hasattr(learner, "get") else "auto"
        return with_gpu if device.startswith("cuda") or (device == "auto" and cuda_devices()) else without

    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    omegaconf.register_new_resolver("on_gpu", on_gpu, replace=True)
    omegaconf.register_new_resolver("cores", lambda: inspect().cores, replace=True)
    omegaconf.register_new_resolver(
        "learner_threads", lambda: 1 if cuda_devices() else min(4, inspect().cores), replace=True
    )
    omegaconf.register_new_resolver("share", lambda slots: max(1, int(slots) // inspect().cores), replace=True)
    omegaconf.register_new_resolver("stamp", lambda: stamp, replace=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _one_line(message: str, base: dict[str, Any]) -> str:
    """Hydra's several lines as one that names the key and what is allowed."""
    if found := re.search(r"Could not find '([\w./-]+)/([^/']*)'", message):
        group, choice = found.groups()
        options = re.findall(r"^\t(\w+)$", message, re.M)
        return f"{group}={choice}: must be one of {', '.join(options)}"
    if found := re.search(r"Could not override '([^']+)'", message):
        key = found.group(1)
        level: Any = base
        path = key.split(".")
        for name in path[:-1]:
            level = level.get(name, {}) if isinstance(level, dict) else {}
        where = ".".join(path[:-1])
        if where and isinstance(level, dict) and level and path[-1] not in level:
            return f"{key}: unknown key, allowed in {where}: {', '.join(sorted(level))}"
        if isinstance(base.get(path[0]), dict):
            return f"{key}: unknown key, allowed in {path[0]}: {', '.join(sorted(base[path[0]]))}"
        return f"{key}: unknown key, allowed here: {', '.join(sorted({*base, 'experiment'}))}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", message):
        return f"{found.group(1)}: one value only; a list is written KEY=[1,2], a text with commas in quotes"
    if found := re.search(r"Error merging override ([\w.]+)=(.*)", message):
        key, value = found.groups()
        group = base.get(key)
        return f"{key}={value}: must be " + (
            f"a group of keys: {', '.join(group)}" if isinstance(group, dict) else "of another type"
        )
    if found := re.search(r"full_key: (\S+)", message):
        return f"{found.group(1)}: {message.splitlines()[0].strip()}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())
