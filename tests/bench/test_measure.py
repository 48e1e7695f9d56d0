import pytest

from distdqn.bench.measure import Cost, Work, arrival_rate, fraction, interleave, median, slope


def test_slope_of_a_line_and_of_nothing() -> None:
    assert slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert slope([1, 1], [0, 5]) == 0
    assert slope([], []) == 0


@pytest.mark.parametrize("lumps", [1, 2, 5])
def test_what_arrives_in_lumps_at_once_is_not_counted_double(lumps: int) -> None:
    times = [float(t) for t in range(6) for _ in range(lumps)]
    assert arrival_rate(times, [10.0] * len(times), 99.0) == pytest.approx(10 * lumps)


def test_few_arrivals_are_counted_over_the_window() -> None:
    assert arrival_rate([0.2, 0.7], [30, 30], seconds=2.0) == 30


def test_fraction_is_formed_within_each_round() -> None:
    # the second round ran on a machine half as fast; 0.75 of the whole's cost is explained in each
    parts = [[Cost(1, 1), Cost(2, 1), Cost(1, 1)], [Cost(2, 2), Cost(4, 2), Cost(2, 2)]]
    whole = [Cost(4, 6), Cost(8, 6), Cost(4, 6)]
    assert fraction(parts, whole, "wall") == pytest.approx(3 / 4)
    assert fraction(parts, whole, "cpu") == pytest.approx(3 / 6)


def test_median_takes_each_figure_by_itself() -> None:
    assert median([Cost(1, 30), Cost(2, 10), Cost(9, 20)]) == Cost(2, 20)


def test_stages_take_turns_and_are_counted() -> None:
    done: list[str] = []

    def work(name: str, units: int) -> Work:
        def chunk() -> int:
            done.append(name)
            return units

        return Work(chunk)

    costs = interleave({"a": work("a", 1), "b": work("b", 1000)}, seconds=1e-6, rounds=3)
    assert done == ["a", "b"] * 4  # one turn to warm up
    assert {name: len(c) for name, c in costs.items()} == {"a": 3, "b": 3}
    assert all(c.wall > 0 and c.cpu >= 0 for c in costs["a"])


def test_a_chunk_that_did_nothing_is_followed_by_another() -> None:
    units = iter([0, 0, 0, 7])
    (cost,) = interleave({"a": Work(lambda: next(units))}, seconds=1e-6, rounds=1)["a"]
    assert cost.wall > 0
