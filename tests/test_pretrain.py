"""The door `pretrain`: quick, in one process, and its weights are where a run starts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from distdqn.cli import main
from distdqn.config import AuxiliaryConfig, ConfigError
from distdqn.config.compose import compose
from distdqn.envs.registry import check_env
from distdqn.learn.auxiliary import Autoencoder
from distdqn.learn.learner import Learner
from distdqn.nets.qnetwork import QNetwork
from distdqn.pretrain import SHOWN, collect, fit

CATCH = ["experiment=catch", "agent.network.torso.kind=small", "learner.device=cpu"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("torso", ["small", "lenet"])
def test_a_run_starts_from_what_the_door_writes(
    torso: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        "experiment=catch",
        f"agent.network.torso.kind={torso}",
        "agent.network.contrast=5",
        "learner.device=cpu",
    ]
    assert main(["pretrain", "--images=200", "--updates=5", "--out=made/torso.safetensors", *settings]) == 0
    out = capsys.readouterr().out
    assert "agent.network.torso.pretrained=made/torso.safetensors" in out
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["torso.png", "torso.safetensors"]
    with Image.open(tmp_path / "made" / "torso.png") as picture:
        # two rows of 10 x 5 images at 12 times their size, with a frame of 2 around each
        assert picture.size == (SHOWN * (5 * 12 + 4), 2 * (10 * 12 + 4))
    written = load_file(tmp_path / "made" / "torso.safetensors")
    assert any(n.startswith("torso.") for n in written) and written["mean_frame"].any()

    config = compose([*settings, "agent.network.torso.pretrained=made/torso.safetensors"])
    learner = Learner(config.agent, config.learner, check_env(config.env), seed=3)
    weights = learner.weights().arrays
    assert {n for n in weights if n.startswith(("torso.", "mean_frame"))} == set(written)
    for name, array in written.items():
        np.testing.assert_array_equal(weights[name], array, err_msg=name)
        np.testing.assert_array_equal(learner.state()["target"][name], array, err_msg=name)
    blank = Learner(compose(settings).agent, config.learner, check_env(config.env), seed=3).weights().arrays
    assert all((blank[n] != written[n]).any() for n in written if n.endswith("weight"))
    assert all((blank[n] == weights[n]).all() for n in weights if n.startswith("head.")), "the rest is the seed's"

    other = compose([*settings, "agent.network.torso.pretrained=made/torso.safetensors", "agent.network.torso.width=2"])
    with pytest.raises(ConfigError, match=r"^agent\.network\.torso\.pretrained=.*another agent\.network\.torso"):
        Learner(other.agent, other.learner, check_env(other.env), seed=3)
    (tmp_path / "made" / "torso.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match=r"^agent\.network\.torso\.pretrained=.*cannot be read"):
        Learner(config.agent, config.learner, check_env(config.env), seed=3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--images=0"], "--images: 0: must be a whole number of at least 1"),
        (["--updates=many"], "--updates: many: must be a whole number of at least 1"),
        (["--updates=-3"], "--updates: -3: must be"),
        (["--out", "torso.png"], "--out: torso.png: must be a file's path that ends in .safetensors"),
        (["images=3"], "images: unknown key"),
        (["--picture=3"], "pretrain does not know --picture=3"),
        (["learner.batchsize=3"], "learner.batchsize: unknown key"),
        (
            ["agent.network.torso.kind=mlp"],
            "agent.network.torso.kind=mlp: pretraining needs a convolutional torso and images",
        ),
        (["experiment=cartpole"], "agent.network.torso.kind=mlp"),
        (["experiment=cartpole", "agent.network.torso.kind=small"], "here are vectors"),
        (["env.game=pongg"], "env.game=pongg"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["pretrain", "learner.device=cpu", *arguments])
    except SystemExit as left:  # argparse
        code = int(left.code or 0)
    assert code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and named in err
    assert list(tmp_path.iterdir()) == []


def test_images_are_observations_of_a_random_agent() -> None:
    config = compose(CATCH)
    spec = replace(check_env(config.env), stack=3)
    images = collect(config, spec, 300)
    assert (images.shape, images.dtype) == ((300, 3, 10, 5), np.uint8)
    balls = (images > 0).sum((2, 3))
    assert balls[:, -1].min() >= 1, "the newest plane is never blank"
    assert (balls[:, 0] == 0).any() and (balls[:, 0] > 0).any(), "planes from before an episode are"
    assert not ((balls[:, 0] > 0) & (balls[:, 1] == 0)).any(), "and older planes are blank before newer ones"
    np.testing.assert_array_equal(collect(config, spec, 300), images)


def test_training_draws_better_pictures() -> None:
    config = compose([*CATCH, "learner.batch_size=32"])
    spec = check_env(config.env)
    torch.manual_seed(0)
    network = QNetwork(config.agent.network, spec)
    before = {n: a.copy() for n, a in network.arrays().items()}
    losses = fit(
        network, Autoencoder(AuxiliaryConfig("autoencoder"), network, spec), collect(config, spec, 300), 60, config
    )
    assert len(losses) == 60
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])
    changed = {n for n, a in network.arrays().items() if (a != before[n]).any()}
    assert changed and all(n.startswith("torso.") for n in changed)


def test_features_keep_a_size_that_learning_can_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose([*CATCH, "learner.batch_size=32"])
    spec = check_env(config.env)
    images = collect(config, spec, 300)

    def size() -> float:
        torch.manual_seed(0)
        network = QNetwork(config.agent.network, spec)
        fit(network, Autoencoder(AuxiliaryConfig("autoencoder"), network, spec), images, 400, config)
        with torch.no_grad():
            return float(network.torso(network.scaled(torch.from_numpy(images))).square().mean().sqrt())

    kept = size()
    monkeypatch.setattr("distdqn.pretrain.SIZE", 0.0)
    assert kept < 2 and size() > 3 * kept
