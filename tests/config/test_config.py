from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest

from distdqn.config import ConfigError, Import, RunConfig, from_mapping, to_mapping
from distdqn.config.renamed import RENAMED
from distdqn.config.section import describe, kinds_of


def leaves(config: Any, key: str = "") -> Iterator[tuple[str, dataclasses.Field[Any], Any]]:
    """Every field that holds a value, with its dotted key and its type."""
    for f in dataclasses.fields(config):
        value, path = getattr(config, f.name), f"{key}.{f.name}".lstrip(".")
        if dataclasses.is_dataclass(value):
            yield from leaves(value, path)
        else:
            yield path, f, kinds_of(type(config))[f.name]


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
CHOICES = [(k, kind) for k, _, kind in LEAVES if "one of " in describe(kind, {})]


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


@pytest.mark.parametrize(("key", "kind"), CHOICES, ids=[k for k, _ in CHOICES])
def test_a_choice_names_what_there_is(key: str, kind: Any) -> None:
    line = refused(key, "no_such_thing")
    literals = [k for k in (kind, *typing.get_args(kind)) if typing.get_origin(k) is typing.Literal]
    assert len(literals) == 1 and all(name in line for name in typing.get_args(literals[0]))
    assert ("package.module:Class" in line) == (Import in typing.get_args(kind))


@pytest.mark.parametrize("key", [k for k, _, _ in LEAVES])
def test_a_value_of_another_type_is_refused(key: str) -> None:
    refused(key, object)


def test_the_class_of_somebody_else_stands_where_a_built_in_name_can() -> None:
    open_keys = [k for k, _, kind in LEAVES if Import in typing.get_args(kind)]
    assert {"agent.network.torso.kind", "agent.exploration.kind", "env.kind"} <= set(open_keys)
    for key in open_keys:
        build(key, "package.module:Class")
    assert isinstance(build("env.kind", "package.module:Class").env.kind, Import)
    refused("env.kind", "package.module")
    refused("learner.optimizer.kind", "package.module:Class")


@pytest.mark.parametrize("key", RENAMED)
def test_a_key_that_had_another_name_is_told_the_new_one(key: str) -> None:
    assert f"{key}: is now {RENAMED[key]}" == refused(key, "anything")
    known = {k for k, _, _ in LEAVES}
    assert RENAMED[key].split(",")[0] in known


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("learner.batch_sise", 1, "batch_size"),
        ("lerner", {}, "learner"),
        ("env.protocol.stick", 1, "sticky"),
        ("learner", 3, "batch_size"),
        ("learner.device", "gpu", "cuda"),
        ("learner.device", "cuda:first", "cuda:N"),
        ("agent.network.head.hidden", [64, 0], "at least 1"),
        ("agent.network.head.hidden", ["wide"], "whole numbers"),
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
        (f"{NETWORK}.head.kind", "categorical", {}, ("v_min=null", "v_max=null")),
        (f"{NETWORK}.head.kind", "categorical", {"agent__network__head__v_min": 1.0}, ("v_min=1.0", "v_max=null")),
        (
            f"{NETWORK}.head.kind",
            "categorical",
            {"agent__network__head__v_min": 2.0, "agent__network__head__v_max": 2.0},
            ("v_min=2.0", "v_max=2.0"),
        ),
        (f"{NETWORK}.memory.heads", 3, {"agent__network__memory__kind": "transformer"}, ("memory.size=512",)),
        (f"{NETWORK}.torso.kind", "tabular", {"agent__network__head__kind": "quantile"}, ("head.kind=scalar",)),
        (f"{NETWORK}.torso.kind", "tabular", {"agent__network__head__dueling": True}, ("dueling",)),
        (f"{NETWORK}.torso.kind", "tabular", {"agent__network__head__noisy": True}, ("noisy",)),
        (f"{NETWORK}.torso.normalize", "layer", {"agent__network__torso__kind": "mlp"}, ("torso.kind=mlp",)),
        (f"{NETWORK}.torso.width", 2, {"agent__network__torso__kind": "tabular"}, ("torso.kind=tabular",)),
        (f"{NETWORK}.torso.pool", 6, {"agent__network__torso__kind": "mlp"}, ("torso.kind=mlp",)),
        (f"{NETWORK}.torso.pretrained", "a.safetensors", {"agent__network__torso__kind": "mlp"}, ("torso.kind=mlp",)),
        (f"{SEQUENCE}.overlap", 8, {"agent__sequence__length": 8}, ("agent.sequence.length=8",)),
        (
            f"{NETWORK}.head.rescale",
            1e-3,
            {"agent__network__head__kind": "quantile"},
            ("agent.network.head.kind=scalar", "quantile"),
        ),
        (
            "agent.returns",
            "peng",
            {"agent__network__head__kind": "quantile"},
            ("agent.network.head.kind=scalar", "quantile"),
        ),
        (
            "agent.returns",
            "retrace",
            {"agent__bootstrap__kind": "munchausen"},
            ("agent.bootstrap.kind=max", "munchausen"),
        ),
        ("agent.returns", "watkins", {"agent__bootstrap__kind": "soft"}, ("agent.bootstrap.kind=max", "soft")),
        ("agent.returns", "peng", {"agent__n_step": 1}, ("agent.n_step=1", "agent.sequence.length=1")),
        (f"{SEQUENCE}.burn_in", 2, {"agent__sequence__length": 4}, ("agent.network.memory.kind=none",)),
        (
            f"{SEQUENCE}.burn_in",
            5,
            {"agent__sequence__length": 4, "agent__network__memory__kind": "gru"},
            ("agent.sequence.length=4",),
        ),
        (
            f"{NETWORK}.memory.steps",
            9,
            {
                "agent__network__memory__kind": "transformer",
                "agent__sequence__length": 6,
                "agent__sequence__burn_in": 2,
            },
            ("agent.sequence.burn_in", "= 8 steps"),
        ),
        ("agent.exploration.kind", "greedy", {}, ("agent.network.head.noisy=true",)),
        ("agent.auxiliary.kind", "autoencoder", {"agent__network__torso__kind": "mlp"}, ("agent.network.torso", "mlp")),
        ("learner.augment.kind", "none", {"learner__augment__online_views": 2}, ("online_views",)),
        ("learner.augment.kind", "none", {"learner__augment__target_views": 2}, ("target_views",)),
        ("learner.augment.kind", "shift", {"agent__network__memory__kind": "gru"}, ("agent.network.memory.kind=gru",)),
        ("learner.compile", "on", {"agent__sequence__length": 8}, ("agent.sequence.length=8",)),
        ("learner.augment.kind", "both", {"agent__sequence__length": 8}, ("agent.sequence.length=8",)),
        ("learner.augment.kind", "intensity", {"agent__returns": "peng"}, ("agent.returns=peng",)),
        (
            "learner.optimizer.weight_decay",
            0.1,
            {"learner__optimizer__kind": "adam"},
            ("optimizer.kind=adamw", "learner.optimizer.l2"),
        ),
        ("learner.optimizer.momentum", 0.5, {"learner__optimizer__kind": "adam"}, ("learner.optimizer.kind=sgd",)),
        (
            "learner.optimizer.momentum",
            0.5,
            {"learner__optimizer__kind": "rmsprop"},
            ("learner.optimizer.centered=false",),
        ),
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
        (
            f"{NETWORK}.head.kind",
            "categorical",
            {"agent__network__head__v_min": 1.0, "agent__network__head__v_max": 2.0},
        ),
        (f"{NETWORK}.memory.heads", 3, {"agent__network__memory__kind": "gru"}),
        (f"{NETWORK}.torso.kind", "tabular", {"agent__network__head__hidden": [], "agent__network__head__bias": False}),
        (f"{SEQUENCE}.overlap", 7, {"agent__sequence__length": 8}),
        ("agent.returns", "peng", {"agent__n_step": 2}),
        ("agent.returns", "peng", {"agent__n_step": 1, "agent__sequence__length": 2, "actors__rollout_steps": 64}),
        (f"{SEQUENCE}.burn_in", 4, {"agent__sequence__length": 4, "agent__network__memory__kind": "gru"}),
        (
            f"{NETWORK}.memory.steps",
            8,
            {
                "agent__network__memory__kind": "transformer",
                "agent__sequence__length": 4,
                "agent__sequence__burn_in": 4,
            },
        ),
        ("agent.exploration.kind", "greedy", {"agent__network__head__noisy": True}),
        ("learner.augment.kind", "shift", {"learner__augment__online_views": 2}),
        ("learner.optimizer.weight_decay", 0.1, {"learner__optimizer__kind": "adamw"}),
        ("learner.optimizer.momentum", 0.5, {"learner__optimizer__kind": "sgd"}),
        (
            "learner.optimizer.momentum",
            0.5,
            {"learner__optimizer__kind": "rmsprop", "learner__optimizer__centered": False},
        ),
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
        agent__network__memory__kind="gru",
    ).agent
    assert agent.window == 3 + 8 + 5 - 1
    assert agent.sequence.stride == 8 - 4


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^learner\.batch_size=300000: .*replay\.capacity=200000$"):
        from_mapping(RunConfig, {"learner": {"batch_size": 300_000}, "replay": {"capacity": 200_000}})


def test_a_run_needs_an_end() -> None:
    with pytest.raises(ConfigError, match=r"^budget: .*budget\.env_frames.*budget\.seconds"):
        build("budget.env_frames", None)
