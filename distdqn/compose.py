"""From command-line overrides to a checked config. With `cli`, the only importer of Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from distdqn.config import ConfigError, RunConfig, from_mapping, to_mapping
from distdqn.machine import cuda_devices, inspect


def conf_dir() -> Path:
    """The folder of YAML files: inside the package when installed, beside it in a checkout."""
    here = Path(__file__).resolve().parent
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

    for text in overrides:
        if "=" not in text and not text.startswith("~"):
            raise ConfigError(f"{text}: not an override, write key=value (distdqn train --help shows examples)")
    base = _plain(to_mapping(RunConfig()))
    base["run_dir"] = "runs/${name}-${stamp:}"
    base["actors"]["count"] = "${cores:}"
    ConfigStore.instance().store(name="base", node=base)
    _register_resolvers(OmegaConf)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides))
            values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        line = _one_line(str(error), base)
        wrong = [o for o in overrides if "See https://hydra.cc" in line and not _parses(o)]
        raise ConfigError(f"{wrong[0]}: cannot be read as key=value" if wrong else line) from None
    assert isinstance(values, dict)
    values.pop("experiment", None)
    return from_mapping(RunConfig, {str(k): v for k, v in values.items()})


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
    omegaconf.register_new_resolver("stamp", lambda: stamp, replace=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _one_line(message: str, base: dict[str, Any]) -> str:
    """Hydra's several lines as one that names the key and what is allowed."""
    if found := re.search(r"Could not find '([\w./-]+)/([^/']+)'", message):
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
        if isinstance(level, dict) and level and path[-1] not in level:
            return f"{key}: unknown key, allowed {'in ' + where if where else 'here'}: {', '.join(sorted(level))}"
        if isinstance(base.get(path[0]), dict):
            return f"{key}: unknown key, allowed in {path[0]}: {', '.join(sorted(base[path[0]]))}"
        groups = sorted(p.name for p in conf_dir().iterdir() if p.is_dir())
        return f"{key}: unknown key, allowed here: {', '.join(sorted({*base, *groups}))}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())
