"""What must hold before a run starts: that agent and environment go together, and that memory is estimated as it is."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distdqn.act.actor import Actor
from distdqn.config import (
    ActorsConfig,
    BonusConfig,
    ConfigError,
    EngineConfig,
    EnvConfig,
    LearnerConfig,
    NetworkConfig,
    ReplayConfig,
    RunConfig,
    SequenceConfig,
)
from distdqn.envs.registry import check_env
from distdqn.machine import Machine
from distdqn.nets.novelty_network import NoveltyNetwork
from distdqn.nets.qnetwork import QNetwork
from distdqn.replay.shard import ReplayShard
from distdqn.runtime.preflight import (
    GIB,
    bytes_per_transition,
    check,
    object_store_bytes,
    rollout_bytes,
    state_size,
    weights_bytes,
)
from distdqn.runtime.run import learner_gpus
from distdqn.types import EnvSpec, Weights
from tests.configs import agent_config, learner_config, network_config

LARGE = Machine(64, 8, 1024 * GIB, 1024 * GIB, 1024 * GIB)
VECTOR = EnvSpec("poles", (4,), "float32", 1, 2)
PIXELS = EnvSpec("screen", (20, 20), "uint8", 2, 2)
CONVOLUTIONAL = network_config(torso="small")
MLP = network_config(torso="mlp")


LEARNER = learner_config()


def line(spec: EnvSpec, network: NetworkConfig, folder: Path, learner: LearnerConfig = LEARNER, **agent: Any) -> str:
    """What `check` says of an agent in an environment, "" where nothing is wrong."""
    config = RunConfig(agent=agent_config(network=network, **agent), learner=learner, run_dir=str(folder))
    said = ""
    try:
        check(config, spec, LARGE)
    except ConfigError as error:
        said = str(error)
    assert "\n" not in said
    return said


def test_convolutions_need_images(tmp_path: Path) -> None:
    for torso in ("dqn_2015", "dqn_2013", "small", "impala", "lenet"):
        message = line(VECTOR, network_config(torso=torso), tmp_path)
        assert message.startswith(f"agent.network.torso.kind={torso}: needs images, but poles gives vectors of 4")
        assert line(PIXELS, network_config(torso=torso), tmp_path) == ""
    assert line(VECTOR, MLP, tmp_path) == line(PIXELS, MLP, tmp_path) == ""
    table = network_config(torso="tabular")
    assert line(PIXELS, table, tmp_path).startswith(
        "agent.network.torso.kind=tabular: needs one-hot vectors, but screen"
    )
    assert line(VECTOR, table, tmp_path) == ""


def test_a_device_that_the_learner_cannot_have_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(device: str, kind: str) -> str:
        engine, learner = EngineConfig(kind=kind), LearnerConfig(device=device)  # type: ignore[arg-type]
        network = agent_config(network=MLP)
        try:
            check(RunConfig(agent=network, learner=learner, engine=engine, run_dir=str(tmp_path)), VECTOR, LARGE)
        except ConfigError as error:
            return str(error)
        return ""

    monkeypatch.setattr("distdqn.runtime.preflight.cuda_devices", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert said("cuda", "ray") == said("cuda:0", "ray") == said("cuda:1", "local") == ""
    assert said("cuda:8", "local").startswith("learner.device=cuda:8: no such CUDA device here, there are 8")
    assert "Ray gives the learner one GPU" in said("cuda:1", "ray") and "CUDA_VISIBLE_DEVICES" in said("cuda:1", "ray")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said("cuda", "ray").startswith("learner.device=cuda: this PyTorch cannot use the GPU that is here")
    assert said("auto", "ray") == said("cpu", "ray") == ""


def test_the_learner_gets_a_gpu_that_pytorch_computes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = RunConfig(), RunConfig(engine=EngineConfig(address="auto"))
    for gpus, works, found in ((0, True, 0), (2, False, 0), (2, True, 1)):
        monkeypatch.setattr("distdqn.runtime.preflight.cuda_devices", lambda gpus=gpus: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda works=works: works)
        assert learner_gpus(here) == found and learner_gpus(there) == 0  # the cluster is asked: test_placing
        assert learner_gpus(replace(there, learner=LearnerConfig(device="cpu"))) == 0
        assert learner_gpus(replace(there, learner=LearnerConfig(device="cuda"))) == 1


def test_a_port_for_metrics_is_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = RunConfig(agent=agent_config(network=MLP), metrics_port=port, run_dir=str(tmp_path))
        with pytest.raises(ConfigError) as caught:
            check(config, VECTOR, LARGE)
    assert str(caught.value) == (
        f"metrics_port={port}: cannot be listened on at metrics_host=127.0.0.1 (Address already in use); "
        "0 takes any that is free"
    )
    check(config, VECTOR, LARGE)


@pytest.mark.parametrize("augment", ["shift", "intensity", "both"])
def test_augmentation_needs_images(tmp_path: Path, augment: str) -> None:
    learner = learner_config(augment=augment)
    assert line(VECTOR, MLP, tmp_path, learner).startswith(f"learner.augment.kind={augment}: needs images, but poles")
    assert line(PIXELS, MLP, tmp_path, learner) == ""


def test_an_autoencoder_needs_images(tmp_path: Path) -> None:
    message = line(VECTOR, CONVOLUTIONAL, tmp_path, auxiliary="autoencoder")
    assert "needs images, but poles gives vectors" in message
    assert line(PIXELS, CONVOLUTIONAL, tmp_path, auxiliary="autoencoder") == ""


def test_pretrained_weights_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "torso.safetensors"
    network = network_config(CONVOLUTIONAL, pretrained=str(path))
    assert line(PIXELS, network, tmp_path).startswith(f"agent.network.torso.pretrained={path}: no such file; `distdqn")
    path.mkdir()
    assert "no such file" in line(PIXELS, network, tmp_path)
    path.rmdir()
    path.touch()
    assert line(PIXELS, network, tmp_path) == ""


@pytest.mark.parametrize("hide", [(4,), (-1,), (0, 1, 2, 3)])
def test_what_cannot_be_hidden(hide: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"^env\.hide=.*$"):
        check_env(EnvConfig(kind="gym", id="CartPole-v1", hide=hide))
    with pytest.raises(ConfigError, match=r"^env\.hide=.*$"):
        check_env(EnvConfig(kind="catch", hide=(0,)))


@pytest.mark.parametrize("contexts", [1, 3])
@pytest.mark.parametrize("previous", [False, True])
@pytest.mark.parametrize("memory", ["none", "rnn", "gru", "lstm", "transformer"])
def test_the_state_is_as_large_as_the_networks(memory: str, previous: bool, contexts: int) -> None:
    network = network_config(
        torso="mlp", memory=memory, memory_size=8, memory_steps=5, memory_layers=2, previous=previous
    )
    bonus = BonusConfig(kind="ngu", mixtures=contexts) if contexts > 1 else BonusConfig()
    config = RunConfig(
        agent=agent_config(network=network, bonus=bonus, sequence=SequenceConfig(length=5)),
        actors=ActorsConfig(rollout_steps=65),
    )
    assert state_size(config, VECTOR) == QNetwork(network, VECTOR, contexts).state_size


@pytest.mark.parametrize("bonus", [BonusConfig(), BonusConfig(kind="ngu", mixtures=2)])
@pytest.mark.parametrize(
    ("network", "sequence"),
    [
        (MLP, SequenceConfig()),
        (network_config(MLP, memory="lstm", memory_size=64), SequenceConfig(length=8, burn_in=4, overlap=4)),
        (network_config(MLP, memory="transformer", memory_size=64, memory_steps=8), SequenceConfig(length=8)),
    ],
)
def test_a_full_shard_takes_what_was_estimated(
    network: NetworkConfig, sequence: SequenceConfig, bonus: BonusConfig
) -> None:
    torch.set_num_threads(1)
    capacity = 2048
    config = RunConfig(
        env=EnvConfig(kind="catch"),
        agent=agent_config(network=network, sequence=sequence, bonus=bonus),
        actors=ActorsConfig(count=1, envs_per_actor=8, rollout_steps=64),
        learner=learner_config(batch_size=32),
        replay=ReplayConfig(capacity=capacity, min_size=64),
    )
    actor = Actor(config.env, config.agent, config.actors, 0, 0)
    arrays = dict(actor.policy.network.arrays())
    if bonus.kind == "ngu":
        arrays |= {f"novelty/{n}": a for n, a in NoveltyNetwork(bonus, actor.spec).arrays().items()}
    shard = ReplayShard(config.replay, capacity, 64, 0, 0, sequence.stride)
    for version in range(5):
        stats = shard.add(actor.rollout(Weights(version, arrays))[0])
    assert stats.transitions <= capacity
    estimated = bytes_per_transition(config, actor.spec) * capacity
    # provenance and the shard's book-keeping, 48 bytes for each segment of 64 steps, are not counted
    assert stats.nbytes == pytest.approx(estimated + 48 * capacity / 64)
    assert np.isfinite(stats.mass)


def test_the_object_store_has_room_for_the_versions_of_the_weights_in_use() -> None:
    small, large = (RunConfig(agent=agent_config(network=network_config(torso=t))) for t in ("small", "impala"))
    for config in (small, large):
        network = QNetwork(config.agent.network, PIXELS)
        assert weights_bytes(config, PIXELS) == sum(p.nbytes for p in network.parameters())
    lone = ActorsConfig(count=1, in_flight=1, envs_per_actor=1)
    many = replace(lone, count=4)
    batch = LearnerConfig(batch_size=4096)  # so that the least size of a store is passed
    one, four = (replace(large, learner=batch, actors=actors) for actors in (lone, many))
    rollouts = rollout_bytes(four, PIXELS) - rollout_bytes(one, PIXELS)
    more = object_store_bytes(four, PIXELS) - object_store_bytes(one, PIXELS)
    assert more == 6 * 2 * rollouts + 2 * 3 * weights_bytes(large, PIXELS)
