"""What a run is told to change, and that a run in which all is well is told nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from distdqn.config import ActorsConfig, EngineConfig, LearnerConfig, RunConfig, TargetConfig
from distdqn.record.advice import advice

CONFIG = RunConfig(
    actors=ActorsConfig(count=8, rollout_steps=64, in_flight=2),
    learner=LearnerConfig(samples_per_insert=8.0, updates_per_call=4, in_flight=2, publish_period=8),
)
WELL = {
    "learner_updates": 1000,
    "run/learner_idle": 0.1,
    "run/actors_idle": 0.2,
    "run/store_full": 0,
    "run/driver_cpu": 0.3,
    "actor/weights_lag": 40.0,
    "node/a/cpu": 0.7,
    "node/a/memory": 0.6,
    "node/a/shared_memory": 0.4,
}


def told(config: RunConfig = CONFIG, **more: Any) -> list[str]:
    return advice(config, WELL | {name.replace("__", "/"): value for name, value in more.items()})


def test_where_all_is_well_nothing_is_said() -> None:
    assert told() == []


def test_nothing_is_said_before_it_can_be_known() -> None:
    assert advice(CONFIG, {}) == []
    assert advice(CONFIG, {"learner_updates": 10, "learner/idle_fraction": 1.0}) == []
    assert told(learner_updates=0, run__learner_idle=1.0) == []


def test_a_learner_that_waits_wants_more_actors_or_more_samples_of_each_transition() -> None:
    # 8 actors that are busy 96% of their time feed a learner 60% of its: 8 * 0.96 / 0.6 = 12.8 would feed it all of it
    assert told(run__learner_idle=0.4, run__actors_idle=0.04) == [
        "the learner waits 40% of its time: about 5 more actors, or learner.samples_per_insert=13"
    ]


def test_large_figures_are_written_out() -> None:
    (line,) = told(run__learner_idle=0.95, run__actors_idle=0.0)
    assert line.endswith("about 152 more actors, or learner.samples_per_insert=160")  # 8 / 0.05 for both


def test_where_all_cores_are_busy_more_actors_need_further_ones() -> None:
    (line,) = told(run__learner_idle=0.4, run__actors_idle=0.04, node__a__cpu=0.94, node__b__cpu=0.96)
    assert "about 5 more actors on further cores (these are 95% busy), or" in line


def test_actors_that_wait_want_fewer_samples_or_fewer_of_them() -> None:
    # 8 * 0.4 / 1 = 3.2 actors' worth of playing, and 8 * 0.4 = 3.2 samples of each transition with all of them
    assert told(run__learner_idle=0.0, run__actors_idle=0.6) == [
        "the actors wait 60% of their time for the learner: learner.samples_per_insert=3.2 would keep them busy, "
        "or actors.count=4 is enough"
    ]
    alone = replace(CONFIG, actors=replace(CONFIG.actors, count=1))
    (line,) = told(alone, run__learner_idle=0.0, run__actors_idle=0.6)
    assert "actors.count" not in line  # none fewer than one


def test_where_both_wait_more_is_to_be_on_its_way() -> None:
    assert told(run__learner_idle=0.3, run__actors_idle=0.5) == [
        "actors and learner both wait, 50% and 30% of their time: actors.in_flight=3 and learner.in_flight=3 would "
        "have more on its way"
    ]


def test_a_driver_that_takes_a_whole_core_wants_fewer_calls() -> None:
    assert told(run__learner_idle=0.3, run__actors_idle=0.2, run__driver_cpu=0.97) == [
        "the driver takes 97% of a core, and others wait for it: actors.rollout_steps=128 and "
        "learner.updates_per_call=8 halve its calls"
    ]
    assert told(run__driver_cpu=0.97) == []  # nobody waits for it


def test_old_weights() -> None:
    assert told(actor__weights_lag=2400.0) == []  # not older than the target network
    lag = {"actor__weights_lag": 3000.0}
    seldom = replace(CONFIG, learner=replace(CONFIG.learner, publish_period=1000))
    once = replace(CONFIG, actors=replace(CONFIG.actors, in_flight=1))
    for config, remedy in (
        (CONFIG, "actors.in_flight=1"),
        (seldom, "learner.publish_period=625"),
        (once, "actors.rollout_steps=32, or fewer actors.envs_per_actor"),
    ):
        (line,) = told(config, **lag)
        assert line == f"the actors' weights are 3000 updates old, older than the target network: {remedy}"
    apart = replace(CONFIG, learner=replace(CONFIG.learner, publish_seconds=2.0))
    assert told(apart, **lag, learner__updates_per_s=1000.0)[0].endswith(": learner.publish_seconds=0.62")
    assert told(apart, **lag, learner__updates_per_s=100.0)[0].endswith(": actors.in_flight=1")
    always = replace(CONFIG, learner=replace(CONFIG.learner, target=TargetConfig(period=1)))
    assert told(always, actor__weights_lag=100.0) == [] and told(always, actor__weights_lag=600.0)


def test_an_object_store_that_is_full_wants_less_on_its_way() -> None:
    halves = "learner.updates_per_call=2, or learner.in_flight=1, or actors.in_flight=1"
    assert told(run__store_full=3) == [f"the object store was full 3 times in the last minute: {halves}"]
    assert told(node__a__shared_memory=0.93) == [f"a's shared memory is 93% full: {halves}"]
    joined = replace(CONFIG, engine=EngineConfig(address="auto"))
    assert "ray start --object-store-memory" in told(joined, run__store_full=1)[0]


def test_memory_that_is_nearly_full() -> None:
    (line,) = told(node__a__memory=0.95, replay__rss_bytes=3 * 2**30)
    assert line.startswith(
        "a's memory is 95% full, of which the replay takes 3.0 GiB in all: a smaller replay.capacity"
    )


def test_what_is_most_urgent_comes_first() -> None:
    found = told(run__learner_idle=0.5, run__store_full=1, actor__weights_lag=9000.0)
    assert [line.split()[1] for line in found] == ["object", "learner", "actors'"]


@pytest.mark.parametrize("engine", [EngineConfig(kind="local"), EngineConfig(lockstep=True)])
def test_where_one_always_waits_for_the_other_nobody_is_blamed(engine: EngineConfig) -> None:
    config = replace(CONFIG, engine=engine)
    assert told(config, run__learner_idle=0.5, run__actors_idle=0.5) == []
    assert told(config, run__store_full=2)
