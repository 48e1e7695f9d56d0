import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch._dynamo import config as dynamo

from distdqn.bench.measure import Work
from distdqn.config import ConfigError
from distdqn.config.compose import compose
from distdqn.config.keys import experiments
from distdqn.envs.registry import check_env
from tests.laboratory import agents
from tests.laboratory.__main__ import main

TINY = [
    "env.frame_size=42",
    "actors.envs_per_actor=2",
    "learner.compile=off",
    "learner.threads=1",
    "learner.precision=float32",
]


def test_the_table_and_the_file_hold_every_agent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, limits, measure = tmp_path / "agents.json", [], agents.measure

    def watched(*args: Any) -> agents.Row:
        limits.append(dynamo.recompile_limit)
        return measure(*args)

    monkeypatch.setattr(agents, "measure", watched)
    assert main(["agents", "--seconds=0.2", f"--out={out}", "dqn_2013", "drqn", *TINY]) == 0
    assert min(limits) > len(agents.agents())  # else torch.compile leaves the later ones as they are
    printed = capsys.readouterr().out
    figures = json.loads(out.read_text())
    rows = figures.pop("agents")
    assert figures == {"reference": "dqn_2015", "env": "atari/pong", "slots": 2, "actor_threads": 1, "device": "cpu"}
    assert [row["agent"] for row in rows] == ["dqn_2015", "dqn_2013", "drqn"]
    for row, positions in zip(rows, (32, 32, 32 * 10), strict=True):
        assert row["agent"] in printed
        assert f"{row['learn_samples_per_s']:,.0f}" in printed
        assert min(row["act_steps_per_s"], row["act_ratio"], row["learn_ratio"]) > 0
        assert row["learn_samples_per_s"] * row["ms_per_update"] / 1e3 == pytest.approx(positions)
        assert row["batch_size"] == row["batch_of_config"] == 32
    # a segment of 64 steps has 64 + 1 + 3 frames
    assert rows[0]["bytes_per_transition"] == pytest.approx(68 / 64 * 42 * 42, rel=0.03)
    # 32 filters of 8 x 8 x 4, 64 of 4 x 4 x 32, 64 of 3 x 3 x 64 that leave 1 x 1; 512 units; 6 actions
    convolutions = 32 * (256 + 1) + 64 * (512 + 1) + 64 * (576 + 1)
    assert rows[0]["parameters"] == convolutions + 512 * (64 + 1) + 6 * (512 + 1)


def test_all_are_the_agents_of_atari_whatever_the_game() -> None:
    found = agents.named([])
    assert found[0] == "dqn_2015" and len(set(found)) == len(found)
    assert {"dqn_2013", "double", "prioritized", "c51", "rainbow", "r2d2", "ngu", "bbf", "apex"} <= set(found)
    assert not {"pong", "cartpole", "catch", "gridworld", "recall", "chain"} & set(found)
    assert set(found) < set(experiments())


def test_the_reference_is_measured_even_unnamed_and_nobody_twice() -> None:
    assert agents.named(["iqn", "c51", "iqn"]) == ("dqn_2015", "iqn", "c51")


@pytest.mark.parametrize("name", ["c52", "pong", "cartpole", "--fast"])
def test_an_unknown_agent_is_one_line_with_the_known_ones(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["agents", "dqn_2015", name])
    (line,) = capsys.readouterr().err.splitlines()
    assert left.value.code == 2 and f"{name}: must be one of dqn_2015, " in line and "munchausen_iqn" in line


@pytest.mark.parametrize("text", ["experiment=c51", "+experiment=c51"])
def test_agents_name_the_experiments(text: str) -> None:
    with pytest.raises(ConfigError, match="experiment=c51: must be left out"):
        agents.prepare("iqn", [text])


def test_what_a_user_sets_holds_for_all_and_a_large_replay_hinders_nobody() -> None:
    overrides = ["actors.envs_per_actor=3", "env.game=breakout", "replay.capacity=1000000000000"]
    config, spec = agents.prepare("r2d2", overrides)
    assert (config.actors.count, config.actors.envs_per_actor, config.actors.threads) == (1, 3, 1)
    assert spec.name == "atari/breakout"
    config, _ = agents.prepare("bbf", [])
    assert (config.actors.envs_per_actor, config.agent.name) == (16, "bbf")


def test_long_sequences_are_halved_until_they_fit() -> None:
    config = compose(["experiment=r2d2", "actors.count=1"])
    spec = check_env(config.env)
    stack = 4 * 4 * 84 * 84  # bytes of four float32 frames
    assert 64 * (40 + 80 + 5 - 1) * stack > agents.SEQUENCE_BYTES > 32 * 124 * stack
    assert agents.batch_size(config, spec) == 32
    assert agents.batch_size(config, replace(spec, stack=1, frame_shape=(42, 42))) == 64
    transitions = compose(["experiment=apex", "actors.count=1", "learner.batch_size=8192"])
    assert agents.batch_size(transitions, spec) == 8192


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(agents.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("seconds", "turns", "costs"),
    [
        (0.1, "ab", [(1 / 8, 6 / 3)]),  # always one chunk of each
        (10.0, "aab" * 2, [(2 / 16, 6 / 3)] * 2),  # turns of 2 s; the second of 6 s fills the 10 s
        (50.0, ("a" * 10 + "bb") * 5, [(10 / 80, 12 / 6)] * 5),  # turns of 10 s; after four 48 s of 50 are spent
    ],
)
def test_turns_by_hand(seconds: float, turns: str, costs: list[tuple[float, float]], clock: list[float]) -> None:
    done: list[str] = []

    def work(name: str, units: int, takes: float) -> Work:
        def chunk() -> int:
            clock[0] += takes
            done.append(name)
            return units

        return Work(chunk)

    assert agents.take_turns(work("a", 8, 1.0), work("b", 3, 6.0), seconds) == costs
    assert "".join(done) == turns
