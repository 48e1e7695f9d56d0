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


def build(key: str, value: Any) -> RunConfig:
    """The default config with the value at the dotted `key` replaced."""
    values = to_mapping(RunConfig())
    *path, name = key.split(".")
    level = values
    for part in path:
        level = level[part]
    level[name] = value
    return from_mapping(RunConfig, values)


LEAVES = list(leaves(RunConfig()))
BOUNDED = [(k, f) for k, f, _ in LEAVES if {"low", "high", "above"} & set(f.metadata)]
CHOICES = [(k, f) for k, f, _ in LEAVES if "allowed" in f.metadata]


def refused(key: str, value: Any) -> str:
    """The line that refuses `value` at `key`."""
    with pytest.raises(ConfigError) as caught:
        build(key, value)
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
    assert str(low if low is not None else above) in refused(key, above if low is None else low - 1)
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


def test_a_batch_larger_than_the_replay_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^learner\.batch_size=300000: .*replay\.capacity=200000$"):
        from_mapping(RunConfig, {"learner": {"batch_size": 300_000}, "replay": {"capacity": 200_000}})


def test_a_run_needs_an_end() -> None:
    with pytest.raises(ConfigError, match=r"^budget: .*budget\.env_frames.*budget\.seconds"):
        build("budget.env_frames", None)
