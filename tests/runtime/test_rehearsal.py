"""Parts of one's own that break their contract: each is one line, before anything is started."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from distdqn.cli import main
from distdqn.types import EnvStep
from tests.example import parts


class Narrow(parts.Residual):
    """Says 64 features and gives fewer."""

    def forward(self, observation: Tensor) -> Tensor:
        return super().forward(observation)[:, :5]


class Forgetful(parts.Leaky):
    """Loses its state."""

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(features, state)[0], state[:, :1]


class Flat(parts.LogCosh):
    """Gathers along a dimension that is not there."""

    def loss(self, values: Any, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        return super().loss(values, action.unsqueeze(1).unsqueeze(1), target, huber)


class Endless(parts.LogCosh):
    """A loss that is not finite."""

    def loss(self, values: Any, action: Tensor, target: Tensor, huber: bool) -> tuple[Tensor, Tensor]:
        loss, priority = super().loss(values, action, target, huber)
        return loss / 0, priority


class Undecided(parts.Sticky):
    """Gives values instead of actions."""

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        return q.max(1)


class Far(parts.Sticky):
    """Knows of more actions than there are."""

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        return np.full(len(q), q.shape[1])


class Lazy(parts.EpsilonGreedy.__base__):  # type: ignore[name-defined, misc]
    """Has no actions at all."""


class Wide(parts.Corridor):
    """Shows more than its spec says."""

    def step(self, action: np.ndarray) -> EnvStep:
        step = super().step(action)
        return EnvStep(np.tile(step.frame, 2), step.reward, step.terminated, step.last)


class Fine(parts.Street):
    """Has images of floats."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.spec = replace(self.spec, frame_dtype="float32")

    def reset(self) -> np.ndarray:
        return super().reset().astype(np.float32)


class Careless(parts.Mellowmax):
    """Divides by what may be zero."""

    def policy(self, q: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor | None]:
        raise ZeroDivisionError


class Blind(parts.Terminal):
    """Wants a field that nobody keeps."""

    def loss(self, network: Any, batch: Any) -> tuple[Tensor | None, dict[str, Tensor]]:
        return batch.steps["mood"].mean(), {}


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("agent.network.torso", "Narrow", "features must be float32 or bfloat16 [2, 64], it gives float32 [2, 5]"),
        ("agent.network.memory", "Forgetful", "state must be float32 [2, 16], it gives float32 [2, 1]"),
        ("agent.network.head", "Flat", "cannot be used (RuntimeError: "),
        ("agent.network.head", "Endless", "cannot be used (ValueError: the loss of an update is not finite"),
        ("agent.exploration", "Undecided", "actions must be int64 or int32 [2], it gives float32 [2]"),
        ("agent.exploration", "Far", "actions must be from 0 to 1"),
        ("agent.exploration", "Lazy", "abstract method"),
        ("env", "Wide", "frames must be float32 [2, 6], it gives float32 [2, 12]"),
        ("env", "Fine", "images must be uint8 or bool [2, 3, 6, 3], it gives float32 [2, 3, 6, 3]"),
        ("agent.bootstrap", "Careless", "cannot be used (ZeroDivisionError, test_rehearsal.py:"),
        ("agent.auxiliary", "Blind", "cannot be used (KeyError: 'mood', test_rehearsal.py:"),
    ],
)
def test_what_breaks_its_contract_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str, name: str, words: str
) -> None:
    corridor = ["experiment=catch", "agent.network.torso.kind=mlp", "env.kind=tests.example.parts:Corridor"]
    memory = ["agent.network.memory.size=16", "agent.sequence.length=8"] if key.endswith("memory") else []
    run = tmp_path / "run"
    assert main(["train", *corridor, *memory, f"{key}.kind={__name__}:{name}", f"run_dir={run}"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{key}.kind={__name__}:{name}" in error and words in error, error
    assert "\n" not in error and not run.exists()


@pytest.mark.parametrize("key", ["agent.network.torso", "agent.bootstrap", "env"])
def test_arguments_of_built_in_kinds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str) -> None:
    assert main(["train", "experiment=catch", f"{key}.kwargs.units=3", f"run_dir={tmp_path / 'run'}"]) == 2
    assert f"{key}.kwargs={{'units': 3}}: is for a class of one's own" in capsys.readouterr().err
