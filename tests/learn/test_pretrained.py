"""Torso weights to a file and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from distdqn.config import ConfigError
from distdqn.learn.pretrained import load_torso, save_torso
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec
from tests.configs import network_config
from tests.learn.helpers import PIXELS, assert_same, differ, make_learner

NETWORK = network_config(torso="dqn_2013", hidden=(8,), normalize="batch", contrast=2.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a torso was saved."""
    network = QNetwork(NETWORK, PIXELS)
    network.mean_frame.fill_(0.25)
    save_torso(network, tmp_path / "deep" / "torso.safetensors")
    return tmp_path / "deep" / "torso.safetensors"


def test_round_trip(tmp_path: Path) -> None:
    source, network = (
        QNetwork(NETWORK, PIXELS),
        QNetwork(network_config(NETWORK, head="quantile", memory="gru"), PIXELS),
    )
    source.mean_frame.fill_(0.25)
    save_torso(source, tmp_path / "torso")
    before = network.arrays()
    load_torso(network, str(tmp_path / "torso"))
    ours = {n: v for n, v in network.arrays().items() if n.startswith(("torso.", "mean_frame"))}
    assert_same(ours, {n: v for n, v in source.arrays().items() if not n.startswith("head.")})
    assert len(ours) > 4 and differ(ours, {n: before[n] for n in ours})
    rest = {n: v for n, v in network.arrays().items() if n not in ours}
    assert_same(rest, {n: before[n] for n in rest})
    assert [f.name for f in tmp_path.iterdir()] == ["torso"]  # nothing half-written is left


def test_a_learner_starts_with_it_in_both_networks(path: Path) -> None:
    learner = make_learner(PIXELS, network_config(NETWORK, pretrained=str(path)), seed=5)
    plain = make_learner(PIXELS, NETWORK, seed=5)
    source = QNetwork(NETWORK, PIXELS)
    load_torso(source, str(path))
    assert_same(learner.online.arrays(), learner.target.arrays())
    for name, value in learner.online.arrays().items():
        torso = name.startswith(("torso.", "mean_frame"))
        expected = (source if torso else plain.online).arrays()[name]
        assert (value == expected).all(), name


def test_a_missing_file_and_one_of_something_else(tmp_path: Path) -> None:
    network = QNetwork(NETWORK, PIXELS)
    with pytest.raises(ConfigError, match=r"agent\.network\.torso\.pretrained=.*nowhere: cannot be read"):
        load_torso(network, str(tmp_path / "nowhere"))
    (tmp_path / "text").write_text("no weights at all")
    with pytest.raises(ConfigError, match=r"text: cannot be read"):
        load_torso(network, str(tmp_path / "text"))
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match=r"empty: cannot be read"):
        load_torso(network, str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("change", "frame"),
    [
        ({"torso": "small"}, (10, 5)),
        ({"width": 2}, (10, 5)),
        ({"normalize": "none"}, (10, 5)),
        ({"contrast": 0.0}, (10, 5)),
        ({}, (10, 6)),  # the mean frame has another shape
    ],
)
def test_another_torso_is_refused_and_left_alone(path: Path, change: dict, frame: tuple[int, int]) -> None:
    network = QNetwork(network_config(NETWORK, **change), EnvSpec("pixels", frame, "uint8", 2, 4))
    before = network.arrays()
    with pytest.raises(ConfigError, match=r"belongs to another agent\.network\.torso"):
        load_torso(network, str(path))
    assert_same(network.arrays(), before)
