import pytest

from distdqn.bench.limits import Costs, Shape, cpu_of_a_step, limit, undisturbed
from distdqn.bench.measure import Cost

# wall, CPU in seconds; 4 samples a step
COSTS = Costs(
    act=Cost(0.010, 0.008),
    add=Cost(0.001, 0.001),
    sample=Cost(0.0005, 0.0004),
    priority=Cost(0.00025, 0.0001),
    learn=Cost(0.002, 0.003),
    carry_step=Cost(0.5, 0.0005),
    carry_sample=Cost(0.5, 0.00025),
)


def test_every_bound_by_hand() -> None:
    found = limit(COSTS, Shape(cores=2, actors=3, shards=2, ratio=4))
    assert found.bounds == pytest.approx(
        {
            "actors": 3 / 0.010,
            "shards": 2 / (0.001 + 4 * (0.0005 + 0.00025)),
            "learner": 1 / (4 * 0.002),
            "cores": 2 / (0.008 + 0.001 + 4 * (0.0004 + 0.0001) + 4 * 0.003 + 0.0005 + 4 * 0.00025),
        }
    )
    assert found.binding == "cores"
    assert found.steps_per_s == pytest.approx(2 / 0.0245)


def test_one_actor_binds_where_little_is_learned() -> None:
    found = limit(COSTS, Shape(cores=64, actors=1, shards=1, ratio=0.5))
    assert (found.binding, found.steps_per_s) == ("actors", pytest.approx(100))


def test_in_one_process_everything_comes_one_after_the_other() -> None:
    found = limit(COSTS, Shape(cores=2, actors=3, shards=2, ratio=4, serial=True))
    assert found.bounds == pytest.approx({"serial": 1 / (0.010 + 0.001 + 4 * (0.0005 + 0.00025 + 0.002))})


def test_the_cpu_of_a_step_adds_up_to_the_bound_of_the_cores() -> None:
    shape = Shape(cores=2, actors=3, shards=2, ratio=4)
    parts = cpu_of_a_step(COSTS, shape)
    assert parts == pytest.approx({"actor": 0.008, "shard": 0.003, "learner": 0.012, "carrying": 0.0015})
    assert limit(COSTS, shape).bounds["cores"] == pytest.approx(2 / sum(parts.values()))


def test_other_load_is_taken_out_of_one_thread_only() -> None:
    assert undisturbed(Cost(0.010, 0.008)) == Cost(0.008, 0.008)
    assert undisturbed(Cost(0.002, 0.003)) == Cost(0.002, 0.003)
    assert undisturbed(Cost(0.010, 0.008), threads=2) == Cost(0.010, 0.008)
