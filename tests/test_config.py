from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import pytest

from distdqn.config import ConfigError, RunConfig, from_mapping, to_mapping


def leaves(config: Any, key: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every field that holds a value, with its dotted key."""
    for f in dataclasses.fields(config):
        value, path = getattr(config, f.name), f"{key}.{f.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            yield from leaves(value, path)
        else:
            yield path, f, value


def build(key: str, value: Any, **others: Any) -> RunConfig:
    """The default config with the value at the dotted `key` replaced, and those of `others`, `__` for a dot."""
    values = to_mapping(RunConfig())
    for dotted, new in {key: value, **{k.replace("__", "."): v for k, v in others.items()}}.items():
        *path, name = dotted.split(".")
        level = values
        for part in path:
            level = level[part]
        level[name] = new
    return from_mapping(RunConfig, values)


LEAVES = list(leaves(RunConfig()))
BOUNDED = [(k, f) for k, f, _ in LEAVES if {"low", "high", "above"} & set(f.metadata)]
CHOICES = [(k, f) for k, f, _ in LEAVES if "allowed" in f.metadata]


def refused(key: str, value: Any, **others: Any) -> str:
    """The line that refuses `value` at `key`."""
    with pytest.raises(ConfigError) as caught:
        build(key, value, **others)
    line = str(caught.value)
    assert line.startswith(key) and "\n" not in line
    return line


def test_the_defaults_survive_a_round_trip() -> None:
    assert from_mapping(RunConfig, to_mapping(RunConfig())) == RunConfig()


def test_nearly_every_key_is_bounded_or_a_choice() -> None:
    assert len(BOUNDED) > 40 and len(CHOICES) > 10


@pytest.mark.parametrize(("key", "f"), BOUNDED, ids=[k for k, _ in BOUNDED])
def test_a_number_out_of_its_range_is_refused(key: str, f: dataclasses.Field[Any]) -> None:
    low, high, above = (f.metadata[name] for name in ("low", "high", "above"))
    if low is not None:
        assert str(low) in refused(key, low - 1)
    if above is not None:
        assert str(above) in refused(key, above)
    if high is not None:
        assert str(high) in refused(key, high + 1)
    for value in (math.nan, math.inf, "many", [1], True):
        refused(key, value)


@pytest.mark.parametrize(("key", "f"), CHOICES, ids=[k for k, _ in CHOICES])
def test_a_choice_names_what_there_is(key: str, f: dataclasses.Field[Any]) -> None:
    line = refused(key, "no_such_thing")
    assert all(("null" if a is None else str(a)) in line for a in f.metadata["allowed"])


@pytest.mark.parametrize(("key", "f", "value"), LEAVES, ids=[k for k, _, _ in LEAVES])
def test_a_value_of_another_type_is_refused(key: str, f: dataclasses.Field[Any], value: Any) -> None:
    refused(key, object)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("learner.batch_sise", 1, "batch_size"),
        ("lerner", {}, "learner"),
        ("env.protocol.stick", 1, "sticky"),
        ("learner", 3, "batch_size"),
        ("learner.device", "gpu", "cuda"),
        ("learner.device", "cuda:first", "cuda:N"),
        ("agent.network.hidden", [64, 0], "at least 1"),
        ("agent.network.hidden", ["wide"], "whole numbers"),
        ("agent.n_step", 65, "actors.rollout_steps=64"),
        ("replay.capacity", 63, "actors.rollout_steps=64"),
        ("replay.min_size", 500_001, "half of the 1000000"),
        ("run_dir", "  ", "folder"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(key: str, value: Any, named: str) -> None:
    assert named in refused(key, value)


NETWORK, SEQUENCE = "agent.network", "agent.sequence"


@pytest.mark.parametrize(
    ("key", "value", "others", "named"),
    [
        (f"{NETWORK}.head", "categorical", {}, ("v_min=null", "v_max=null")),
        (f"{NETWORK}.head", "categorical", {"agent__network__v_min": 1.0}, ("v_min=1.0", "v_max=null")),
        (
            f"{NETWORK}.head",
            "categorical",
            {"agent__network__v_min": 2.0, "agent__network__v_max": 2.0},
            ("v_min=2.0", "v_max=2.0"),
        ),
        (f"{NETWORK}.memory_heads", 3, {"agent__network__memory": "transformer"}, ("memory_size=512",)),
        (f"{NETWORK}.torso", "tabular", {"agent__network__head": "quantile"}, ("head=scalar",)),
        (f"{NETWORK}.torso", "tabular", {"agent__network__dueling": True}, ("dueling",)),
        (f"{NETWORK}.torso", "tabular", {"agent__network__noisy": True}, ("noisy",)),
        (f"{NETWORK}.normalize", "layer", {"agent__network__torso": "mlp"}, ("torso=mlp",)),
        (f"{NETWORK}.width", 2, {"agent__network__torso": "tabular"}, ("torso=tabular",)),
        (f"{NETWORK}.pool", 6, {"agent__network__torso": "mlp"}, ("torso=mlp",)),
        (f"{NETWORK}.pretrained", "a.safetensors", {"agent__network__torso": "mlp"}, ("torso=mlp",)),
        (f"{SEQUENCE}.overlap", 8, {"agent__sequence__length": 8}, ("agent.sequence.length=8",)),
        ("agent.rescale", True, {"agent__network__head": "quantile"}, ("agent.network.head=scalar", "quantile")),
        ("agent.returns", "peng", {"agent__network__head": "quantile"}, ("agent.network.head=scalar", "quantile")),
        ("agent.returns", "retrace", {"agent__bootstrap": "munchausen"}, ("agent.bootstrap=max", "munchausen")),
        ("agent.returns", "watkins", {"agent__bootstrap": "soft"}, ("agent.bootstrap=max", "soft")),
        ("agent.returns", "peng", {"agent__n_step": 1}, ("agent.n_step=1", "agent.sequence.length=1")),
        (f"{SEQUENCE}.burn_in", 2, {"agent__sequence__length": 4}, ("agent.network.memory=none",)),
        (
            f"{SEQUENCE}.burn_in",
            5,
            {"agent__sequence__length": 4, "agent__network__memory": "gru"},
            ("agent.sequence.length=4",),
        ),
        (
            f"{NETWORK}.memory_steps",
            9,
            {"agent__network__memory": "transformer", "agent__sequence__length": 6, "agent__sequence__burn_in": 2},
            ("agent.sequence.burn_in", "= 8 steps"),
        ),
        ("agent.exploration.kind", "greedy", {}, ("agent.network.noisy=true",)),
        ("agent.autoencoder", 1.0, {"agent__network__torso": "mlp"}, ("agent.network.torso", "mlp")),
        ("learner.augment", "none", {"learner__online_views": 2}, ("online_views",)),
        ("learner.augment", "none", {"learner__target_views": 2}, ("target_views",)),
        ("learner.augment", "shift", {"agent__network__memory": "gru"}, ("agent.network.memory=gru",)),
        ("learner.augment", "both", {"agent__sequence__length": 8}, ("agent.sequence.length=8",)),
        ("learner.augment", "intensity", {"agent__returns": "peng"}, ("agent.returns=peng",)),
        ("learner.weight_decay", 0.1, {"learner__optimizer": "adam"}, ("learner.optimizer=adamw", "learner.l2")),
        ("learner.momentum", 0.5, {"learner__optimizer": "adam"}, ("learner.optimizer=sgd",)),
        ("learner.momentum", 0.5, {"learner__optimizer": "rmsprop"}, ("learner.rmsprop_centered=false",)),
        ("agent.n_step_final", 2, {"agent__returns": "peng"}, ("agent.returns=peng",)),
        (
            "agent.discount_final",
            0.9,
            {"agent__bonus__kind": "ngu", "agent__bonus__mixtures": 2},
            ("agent.bonus.mixtures=2",),
        ),
        (f"{SEQUENCE}.length", 63, {}, ("65 steps", "actors.rollout_steps=64")),
        ("agent.n_step", 66, {}, ("66 steps", "actors.rollout_steps=64")),
        ("actors.rollout_steps", 64, {"agent__sequence__length": 10}, ("agent.sequence.overlap = 10",)),
        ("actors.rollout_steps", 64, {"agent__sequence__length": 10, "agent__sequence__overlap": 3}, ("= 7",)),
        ("replay.min_size", 65, {"replay__capacity": 191, "learner__batch_size": 4}, ("128", "replay.capacity=191")),
        ("replay.capacity", 127, {"replay__shards": 2}, ("replay.shards=2", "actors.rollout_steps=64")),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(
    key: str, value: Any, others: dict[str, Any], named: tuple[str, ...]
) -> None:
    line = refused(key, value, **others)
    assert all(name in line for name in named), line


@pytest.mark.parametrize(
    ("key", "value", "others"),
    [
        (f"{NETWORK}.head", "categorical", {"agent__network__v_min": 1.0, "agent__network__v_max": 2.0}),
        (f"{NETWORK}.memory_heads", 3, {"agent__network__memory": "gru"}),
        (f"{NETWORK}.torso", "tabular", {}),
        (f"{SEQUENCE}.overlap", 7, {"agent__sequence__length": 8}),
        ("agent.returns", "peng", {"agent__n_step": 2}),
        ("agent.returns", "peng", {"agent__n_step": 1, "agent__sequence__length": 2, "actors__rollout_steps": 64}),
        (f"{SEQUENCE}.burn_in", 4, {"agent__sequence__length": 4, "agent__network__memory": "gru"}),
        (
            f"{NETWORK}.memory_steps",
            8,
            {"agent__network__memory": "transformer", "agent__sequence__length": 4, "agent__sequence__burn_in": 4},
        ),
        ("agent.exploration.kind", "greedy", {"agent__network__noisy": True}),
        ("learner.augment", "shift", {"learner__online_views": 2}),
        ("learner.weight_decay", 0.1, {"learner__optimizer": "adamw"}),
        ("learner.momentum", 0.5, {"learner__optimizer": "sgd"}),
        ("learner.momentum", 0.5, {"learner__optimizer": "rmsprop", "learner__rmsprop_centered": False}),
        ("agent.n_step_final", 2, {}),
        ("agent.discount_final", 0.9, {"agent__bonus__kind": "ngu"}),
        ("agent.n_step", 64, {}),
        ("replay.min_size", 64, {"replay__capacity": 191, "learner__batch_size": 4}),
    ],
)
def test_what_goes_together_just_so_is_taken(key: str, value: Any, others: dict[str, Any]) -> None:
    build(key, value, **others)


def test_a_longer_n_later_on_needs_its_window_from_the_start() -> None:
    agent = build("agent.n_step_final", 10, agent__n_step=3).agent
    assert (agent.longest, agent.window) == (10, 10)
    assert "actors.rollout_steps=64" in refused("agent.n_step", 3, agent__n_step_final=65)


def test_windows_of_sequences() -> None:
    agent = build(
        "agent.sequence.length",
        8,
        agent__sequence__burn_in=3,
        agent__sequence__overlap=4,
        agent__n_step=5,
        agent__network__memory="gru",
    ).agent
    assert agent.window == 3 + 8 + 5 - 1
    assert agent.sequence.stride == 8 - 4


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^learner\.batch_size=300000: .*replay\.capacity=200000$"):
        from_mapping(RunConfig, {"learner": {"batch_size": 300_000}, "replay": {"capacity": 200_000}})


def test_a_run_needs_an_end() -> None:
    with pytest.raises(ConfigError, match=r"^budget: .*budget\.env_frames.*budget\.seconds"):
        build("budget.env_frames", None)
