"""The runs of a sweep as Hydra's own sweeper makes them, for whoever does not run them here and now."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException

from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import command_line, sweep_name
from distdqn.config.overrides import parse


@dataclass(frozen=True)
class Sweep:
    """What `train -m` would do.

    Attributes:
        folder: absolute; nothing is there yet.
        runs: the overrides of each, one value for each key, and its config, whose `run_dir` is below `folder`.
        yaml: Hydra's `multirun.yaml`.
    """

    folder: Path
    runs: list[tuple[list[str], RunConfig]]
    yaml: str


def one_by_one(texts: Sequence[str]) -> list[list[str]]:
    """All combinations of overrides such as cluster.head.nodes=1,2, with one value for each key. Raises `ConfigError`,
    which shows the override."""
    choices = []
    for text in texts:
        override = parse(text, sweep=True)
        try:
            values = list(override.sweep_string_iterator()) if override.is_sweep_override() else []
        except HydraException:
            raise ConfigError(f"{text}: write the values, as {override.key_or_group}=1,2") from None
        choices.append([f"{override.key_or_group}={value}" for value in values] or [text])
    return [list(chosen) for chosen in product(*choices)]


def combinations(overrides: Sequence[str], config_dir: str | None = None) -> Sweep:
    """All combinations of `overrides` such as seed=1,2. Raises `ConfigError`, which names the key."""
    key = "hydra.sweep.dir="
    told = [str(parse(text).value()) for text in overrides if text.startswith(key)]
    folder = Path(told[-1] if told else f"multirun/{datetime.now():%Y-%m-%d/%H-%M-%S}").absolute()
    runs: list[tuple[list[str], RunConfig]] = []
    wrong: list[ConfigError] = []

    def collect(config: Callable[[], RunConfig]) -> tuple[int, None]:
        try:
            made = config()
        except ConfigError as error:
            wrong.append(error)
            return 1, None
        texts = [text.removeprefix("++") for text in HydraConfig.get().overrides.task]
        track = made.track
        if track.group == sweep_name(Path(there)):
            track = replace(track, group=sweep_name(folder))
        runs.append((texts, replace(made, run_dir=made.run_dir.replace(there, str(folder), 1), track=track)))
        return 0, None

    flags = ["--multirun", *([f"--config-dir={Path(config_dir).absolute()}"] if config_dir else [])]
    with tempfile.TemporaryDirectory() as there:
        rest = [text for text in overrides if not text.startswith(key)]
        code = command_line(flags, [*rest, f"{key}{there}"], collect)
        if wrong:
            raise wrong[0]
        if code:
            raise ConfigError("the sweep cannot be composed, see above")
        yaml = (Path(there) / "multirun.yaml").read_text().replace(there, str(folder))
    if len({config.run_dir for _, config in runs}) < len(runs):
        raise ConfigError("run_dir: each run of a sweep has a folder of its own, hydra.sweep.dir=DIR says where")
    return Sweep(folder, runs, yaml)
