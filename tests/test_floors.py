"""The house of the architecture page, read off the imports: a file imports only from floors below its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import distdqn

PACKAGE = Path(distdqn.__file__).resolve().parent
FLOORS = {
    0: ("types", "config", "machine", "packed"),
    1: ("algo", "nets", "envs", "replay", "record", "checkpoint", "run_folder"),
    2: ("act", "learn"),
    3: ("evaluate",),
    4: ("runtime",),
    5: ("report", "bench", "cli", "doctor", "launch", "pretrain", "scale", "train"),
}
FLOOR = {place: floor for floor, places in FLOORS.items() for place in places}
# Who may import a sibling: the command line opens every door, some doors compose a config, and the recorder
# writes where the run's folder says.
SIBLINGS = {("cli", door) for door in ("report", "bench", "doctor", "launch", "pretrain", "scale", "train")}
# A head knows the equations that it is learned by; what this machine has decides the form of an experiment.
SIBLINGS |= {("nets", "algo"), ("record", "run_folder"), ("config", "machine")}
# The end of a sweep is a table. What a simulation pretends is measured, and drawn.
SIBLINGS |= {("packed", "types"), ("train", "report"), ("scale", "bench"), ("scale", "report")}
ONLY_IN = {
    "ray": ("runtime/ray.py",),
    "grpc": ("runtime/joining.py",),
    "hydra": ("config/",),
    "omegaconf": ("config/",),
    "wandb": ("record/wandb.py",),
    "tensorboard": ("record/tensorboard.py",),
    "matplotlib": ("report/",),
}


def imported(source: str) -> Iterator[str]:
    """The absolute names of all modules that `source` imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module == "distdqn")


def violations(path: str, source: str) -> list[str]:
    """What the file at `path` (in the package) imports and must not."""
    place = path.split("/")[0].removesuffix(".py")
    found = []
    for name in imported(source):
        top, _, rest = name.partition(".")
        if top in ONLY_IN and not path.startswith(ONLY_IN[top]):
            found.append(f"{path} imports {name}, which only {', '.join(ONLY_IN[top])} may")
        if top != "distdqn" or not rest:
            continue
        other = rest.split(".")[0]
        if other not in FLOOR:
            found.append(f"{path} imports {name}, which is on no floor")
        elif other != place and FLOOR[other] >= FLOOR[place] and (place, other) not in SIBLINGS:
            found.append(f"{path} on floor {FLOOR[place]} imports {name} of floor {FLOOR[other]}")
    return found


def files() -> list[str]:
    """The package's files."""
    return sorted(str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py"))


def test_every_file_has_a_floor() -> None:
    places = {path.split("/")[0].removesuffix(".py") for path in files()}
    assert places - set(FLOOR) <= {"__init__", "__main__"}
    assert len(files()) > 30


@pytest.mark.parametrize("path", [p for p in files() if p not in ("__init__.py", "__main__.py")])
def test_a_file_imports_only_from_floors_below(path: str) -> None:
    assert violations(path, (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("types.py", "from distdqn.config import RunConfig"),
        ("algo/td.py", "from distdqn import nets"),
        ("algo/td.py", "import distdqn.act.actor"),
        ("replay/shard.py", "def f():\n    from distdqn.runtime.engine import Needs"),
        ("learn/learner.py", "if True:\n    import distdqn.act.policy as p"),
        ("runtime/local.py", "import ray.exceptions"),
        ("record/recorder.py", "def f():\n    import wandb"),
        ("runtime/run.py", "from hydra import compose"),
        ("evaluate/video.py", "from matplotlib.figure import Figure"),
        ("report/plot.py", "from distdqn.cli import main"),
        ("algo/td.py", "import distdqn.attic"),
    ],
)
def test_a_file_that_reaches_too_high_is_caught(path: str, source: str) -> None:
    assert len(violations(path, source)) >= 1


WITHOUT_RAY = """
import importlib, pkgutil, sys

sys.modules["ray"] = None  # any import of it raises
for place in ("algo", "nets", "replay", "envs", "act", "learn", "evaluate"):
    package = importlib.import_module(f"distdqn.{place}")
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("runtime.local", "runtime.coordinator", "runtime.run", "runtime.preflight"):
    importlib.import_module(f"distdqn.{name}")
for heavy in ("wandb", "hydra", "matplotlib", "tensorboard", "grpc"):
    assert heavy not in sys.modules, heavy
try:
    importlib.import_module("distdqn.runtime.ray")
except ImportError:
    print("blocked")
"""


def test_all_but_the_ray_engine_works_without_ray() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_RAY], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "blocked\n"), done.stderr
