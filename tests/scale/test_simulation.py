"""Whole systems in virtual time: what comes out is what the costs that went in imply."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distdqn.cli import main
from distdqn.config import ConfigError, RunConfig
from distdqn.config.compose import compose
from distdqn.config.scale import compose_scale, node_counts
from distdqn.envs.registry import check_env
from distdqn.runtime.simulated import Machines
from distdqn.scale.outcome import Outcome
from distdqn.scale.pretended import Costs
from distdqn.scale.simulation import at_nodes, simulate

MILLI = 1e-3
COSTS = Costs(MILLI, 0, 0, 0, update=MILLI, carry=0, transition=0, window=0, weights=0)
SHAPE = ("actors.count=5", "actors.envs_per_actor=2", "actors.rollout_steps=50", "replay.shards=2")
SMALL = (
    "experiment=catch",
    "replay.kind=prioritized",
    *SHAPE,
    "replay.min_size=2000",
    "learner.batch_size=100",
    "learner.samples_per_insert=1",
    "learner.updates_per_call=4",
    "learner.publish_period=8",
)


def system(nodes: int, costs: Costs = COSTS, machines: dict[str, Any] | None = None, *overrides: str) -> Outcome:
    """Five actors a node, each 1000 steps/s; with one sample for each, 100 updates of 100 make up 10,000 steps. The
    coordinator's own time does not count."""
    config = compose([*SMALL, *overrides])
    settings = {"latency": 0.0, **(machines or {})}
    return simulate(
        at_nodes(config, nodes), check_env(config.env), costs, Machines(nodes, **settings), 5.0, True, lambda: 0.0
    )


def changed(**costs: float) -> Costs:
    return Costs(**{**vars(COSTS), **costs})


@pytest.mark.parametrize("nodes", [1, 10])
def test_actors_bind(nodes: int) -> None:
    found = system(nodes)
    assert (found.actors, found.shards, found.binds) == (5 * nodes, 2 * nodes, "actors")
    assert found.steps_per_s == pytest.approx(5000 * nodes, rel=0.03)
    assert found.samples_per_s == pytest.approx(found.steps_per_s, rel=0.1)
    assert found.updates_per_s == pytest.approx(found.samples_per_s / 100)
    assert found.busy["learner"] == pytest.approx(50 * nodes * MILLI, rel=0.05)


def test_the_learner_binds() -> None:
    found = system(4, changed(update=10 * MILLI))  # 100 updates/s, half of what 20 actors could play
    assert found.binds == "learner"
    assert found.steps_per_s == pytest.approx(100 * 100, rel=0.05)
    assert found.busy["actors"] == pytest.approx(0.5, abs=0.05)


def test_shards_bind() -> None:
    found = system(2, changed(sample=MILLI))  # 4 shards draw 4000 windows a second
    assert found.binds == "shards"
    assert found.samples_per_s == pytest.approx(4000, rel=0.1)


def test_the_network_binds() -> None:
    # of the windows three quarters come from other machines, 1 kB each through a card of 3 MB/s
    found = system(4, changed(window=1000.0), {"bandwidth": 3e6})
    assert found.binds == "network"
    assert found.samples_per_s == pytest.approx(4000, rel=0.1)


def test_cores_bind() -> None:
    found = system(1, changed(), {"cores": 2})
    assert found.binds == "cores"
    assert found.steps_per_s == pytest.approx(2000, rel=0.03)


def test_the_coordinator_binds() -> None:
    # 5 ms a call: 100 steps are a rollout and its add; a draw, for 400 of them, 8 samples, an update and 8 times
    # priorities, and every second time weights
    found = system(4, COSTS, {"ask": 5 * MILLI})
    assert found.binds == "coordinator"
    assert found.message == pytest.approx(5 * MILLI)
    assert found.messages == pytest.approx(200, rel=0.05)
    assert found.steps_per_s == pytest.approx(400 * 200 / (4 * 2 + 17.5), rel=0.1)


def test_many_shards_are_no_more_messages() -> None:
    few, many = (system(8, COSTS, None, f"replay.shards={n}", "replay.shards_per_draw=16") for n in (2, 16))
    assert (few.shards, many.shards) == (16, 128)
    assert many.messages == pytest.approx(few.messages, rel=0.05)
    assert many.steps_per_s == pytest.approx(few.steps_per_s, rel=0.05)


def test_the_same_each_time() -> None:
    assert system(2) == system(2)


def test_a_config_says_what_a_node_brings() -> None:
    config: RunConfig = at_nodes(compose(list(SMALL)), 3)
    assert (config.actors.count, config.replay.shards) == (15, 6)


def test_the_door(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "scale.json", tmp_path / "scale.png"
    costs = "step_us=1000 add_us=0 sample_us=0 priority_us=0 update_ms=1 transition_bytes=0 seconds=1 ask_us=2000"
    given = [f"scale.{text}" for text in costs.split()]
    arguments = ["scale", "--simulate", "--out", str(out), "--plot", str(plot), "nodes=1,2", *SMALL, *given]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "what binds" in printed
    figures = json.loads(out.read_text())
    assert [s["nodes"] for s in figures["systems"]] == [1, 2]
    assert figures["systems"][0]["steps_per_s"] == pytest.approx(5000, rel=0.1)
    driven = figures["coordinator"][-1]
    assert 1 <= driven["nodes"] <= 8, "2 ms a call are soon too much"
    assert figures["costs"]["update"] == pytest.approx(MILLI)
    assert plot.read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("text", ["nodes=0", "nodes=two", "nodes=1,,2", "nodes="])
def test_wrong_numbers_of_nodes(text: str) -> None:
    with pytest.raises(ConfigError, match="must be whole numbers from 1 to 10000"):
        node_counts([text])


def test_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert node_counts(["seed=1", "nodes=8,1,8"]) == ((1, 8), ["seed=1"])
    assert compose_scale(["scale.update_ms=3"]).update_ms == 3
    with pytest.raises(ConfigError, match=r"scale\.update_ms=-1: must be a number above 0"):
        compose_scale(["scale.update_ms=-1"])
    with pytest.raises(ConfigError, match=r"scale\.speed: unknown key, allowed here: .*bandwidth"):
        compose_scale(["scale.speed=3"])
    assert main(["scale", "--simulate", "nodes=1", "nodes=2"]) == 2
    assert "nodes: say it once" in capsys.readouterr().err
