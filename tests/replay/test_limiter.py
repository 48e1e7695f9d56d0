"""The two-sided limiter under every order of completion, failure and restart."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distdqn.replay.limiter import SamplesPerInsert

CLOSE = 1e-6


def make(**changes: float) -> SamplesPerInsert:
    settings: dict[str, float] = {"ratio": 2.0, "min_size": 100, "insert_quantum": 10, "sample_quantum": 8}
    return SamplesPerInsert(**{**settings, **changes})  # type: ignore[arg-type]


def insert(limiter: SamplesPerInsert, n: int) -> None:
    limiter.reserve_insert(n)
    limiter.commit_insert(n, n)


def sample(limiter: SamplesPerInsert, n: int) -> None:
    limiter.reserve_sample(n)
    limiter.commit_sample(n, n)


def test_room_by_hand() -> None:
    limiter = make()
    slack = 2 * 10 + 8
    assert limiter.slack == slack
    assert limiter.room_to_insert() == 100 + slack // 2
    assert limiter.room_to_sample() == 0
    insert(limiter, 99)
    assert limiter.room_to_sample() == 0
    insert(limiter, 1)  # filled: nothing earned yet, but the slack may be drawn ahead
    assert limiter.room_to_sample() == slack
    sample(limiter, 8)
    assert limiter.room_to_sample() == slack - 8
    assert limiter.room_to_insert() == (slack + 8) // 2
    insert(limiter, 10)  # earns 2 * 10
    assert limiter.balance == 2 * 10 - 8
    assert limiter.samples_per_insert == 8 / 10


def test_calls_in_flight_count_against_both_sides() -> None:
    limiter = make()
    insert(limiter, 100)
    limiter.reserve_sample(8)
    assert limiter.room_to_sample() == 28 - 8
    assert limiter.room_to_insert() == 28 // 2  # the samples might never come
    limiter.reserve_insert(10)
    assert limiter.room_to_insert() == 28 // 2 - 10
    assert limiter.room_to_sample() == 28 - 8  # nor might the transitions
    limiter.commit_sample(0, 8)
    limiter.commit_insert(7, 10)
    assert limiter.balance == 2 * 7
    with pytest.raises(ValueError, match="cannot reserve"):
        limiter.reserve_sample(28 + 14 + 1)
    with pytest.raises(ValueError, match="cannot reserve"):
        limiter.reserve_insert(8)
    with pytest.raises(ValueError, match="in flight"):
        limiter.commit_insert(0, 1)
    with pytest.raises(ValueError, match="in flight"):
        limiter.commit_sample(1, 1)


def test_depth_lets_that_many_calls_fly() -> None:
    limiter = make(insert_depth=3, sample_depth=2)
    insert(limiter, 100)
    for _ in range(3):
        limiter.reserve_insert(10)
    for _ in range(2):
        limiter.reserve_sample(8)


def test_a_lost_replay_is_refilled_without_a_burst() -> None:
    limiter = make()
    insert(limiter, 100)
    insert(limiter, 14)  # as far ahead as it may: 28 samples earned
    assert limiter.room_to_insert() == 0
    limiter.refill(stored=95)
    assert limiter.room_to_sample() == 0
    assert limiter.balance == 0  # the 28 are forgiven
    insert(limiter, 4)
    assert limiter.room_to_sample() == 0
    insert(limiter, 1)
    assert limiter.room_to_sample() == 28
    assert limiter.filled == 100 + 5


def test_goes_on_after_a_restart_with_an_empty_replay() -> None:
    limiter = make()
    insert(limiter, 100)
    for _ in range(1000):
        insert(limiter, 4)
        sample(limiter, 8)
    other = make()
    other.restore(json.loads(json.dumps(limiter.state())))
    other.refill(stored=0)
    assert (other.inserted, other.sampled) == (4100, 8000)
    assert other.room_to_sample() == 0
    insert(other, 100)
    assert other.room_to_sample() == 28


def lost_with_samples_in_flight() -> SamplesPerInsert:
    """28 samples earned, 28 more of slack, all 56 in flight when all but 95 of 114 transitions are lost."""
    limiter = make()
    insert(limiter, 114)
    limiter.reserve_sample(28 + 28)
    limiter.refill(stored=95)
    return limiter


def test_samples_in_flight_at_a_loss_stay_within_the_slack() -> None:
    limiter = lost_with_samples_in_flight()
    limiter.commit_sample(56, 56)
    assert limiter.balance == 28 - 56


def test_samples_that_failed_after_a_loss_do_not_block_refilling() -> None:
    limiter = lost_with_samples_in_flight()
    limiter.commit_sample(0, 56)
    assert limiter.room_to_insert() == 5 + 28 // 2
    other = make()
    other.restore(lost_with_samples_in_flight().state())  # those calls ended with the run
    assert other.room_to_insert() == 5 + 28 // 2


def test_transitions_asked_for_while_filling_never_earn_too_much() -> None:
    limiter = make()
    limiter.reserve_insert(100)
    limiter.refill(stored=5000)
    assert limiter.room_to_insert() == 28 // 2
    limiter.commit_insert(100, 100)
    assert limiter.balance == 0
    assert limiter.room_to_sample() == 28


def test_a_restart_with_a_smaller_batch_does_not_owe_the_larger_ones() -> None:
    large = make(sample_quantum=800)
    insert(large, 100)
    sample(large, 800)
    limiter = make()
    limiter.restore(large.state())
    assert limiter.balance == -28
    assert limiter.room_to_insert() == (28 + 28) // 2


@pytest.mark.parametrize("ratio", [0.25, 16.0])
def test_a_restart_with_another_ratio_neither_waits_nor_catches_up(ratio: float) -> None:
    limiter = make()
    insert(limiter, 100)
    for _ in range(1000):
        insert(limiter, 4)
        sample(limiter, 8)
    other = make(ratio=ratio)
    other.restore(limiter.state())
    other.refill(stored=10_000)
    assert other.room_to_sample() >= 8
    assert other.room_to_sample() <= 2 * other.slack
    assert other.room_to_insert() <= 2 * other.slack / ratio


@pytest.mark.parametrize("bad", [{"ratio": 0.0}, {"min_size": 0}, {"insert_quantum": 0}, {"sample_depth": 0}])
def test_refuses_what_cannot_be(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        make(**bad)


@settings(max_examples=200, deadline=None)
@given(
    data=st.data(),
    ratio=st.one_of(st.floats(0.01, 64), st.sampled_from([0.1, 0.75, 1.0, 8.0])),
    min_size=st.integers(1, 300),
    insert_quantum=st.integers(1, 100),
    sample_quantum=st.integers(1, 100),
    depths=st.tuples(st.one_of(st.integers(1, 4), st.just(64)), st.integers(1, 4)),
)
def test_never_deadlocks_and_holds_the_ratio(
    data: st.DataObject, ratio: float, min_size: int, insert_quantum: int, sample_quantum: int, depths: tuple[int, int]
) -> None:
    """Calls end in any order, bring less than asked for or fail; the replay is lost, the run restarts."""

    def build() -> SamplesPerInsert:
        return SamplesPerInsert(ratio, min_size, insert_quantum, sample_quantum, *depths)

    limiter = build()
    inserts, samples = [0] * 0, [0] * 0  # what each call in flight has reserved
    stored = counted = drawn = 0  # transitions held; since the last refill or restart: beyond filling, drawn
    ideal = 0.0  # the balance at the last refill or restart

    for _ in range(data.draw(st.integers(1, 40))):
        moves = ["lose", "restart"]
        if room := min(limiter.room_to_insert(), insert_quantum):
            moves += ["ask insert"] * 4
        if ahead := min(limiter.room_to_sample(), sample_quantum):
            moves += ["ask sample"] * 4
        moves += ["end insert"] * (3 * bool(inserts)) + ["end sample"] * (3 * bool(samples))
        match data.draw(st.sampled_from(moves)):
            case "ask insert":
                inserts.append(room)
                limiter.reserve_insert(room)
            case "ask sample":
                assert stored >= min_size  # the rule itself
                samples.append(ahead)
                limiter.reserve_sample(ahead)
            case "end insert":
                reserved = inserts.pop(data.draw(st.integers(0, len(inserts) - 1)))
                if data.draw(st.integers(0, 4)) == 0:
                    limiter.commit_insert(0, reserved)
                else:
                    n = data.draw(st.integers(0, reserved))
                    counted += max(0, stored + n - max(stored, min_size))
                    stored += n
                    limiter.commit_insert(n, reserved)
            case "end sample":
                reserved = samples.pop(data.draw(st.integers(0, len(samples) - 1)))
                if data.draw(st.integers(0, 4)) == 0:
                    limiter.commit_sample(0, reserved)
                else:
                    n = data.draw(st.integers(0, reserved))
                    drawn += n
                    limiter.commit_sample(n, reserved)
            case "lose":
                stored = data.draw(st.integers(0, stored))
                limiter.refill(stored)
                ideal, counted, drawn = limiter.balance, 0, 0
            case "restart":
                state, limiter, inserts, samples = limiter.state(), build(), [], []
                stored = data.draw(st.sampled_from([0, stored]))
                limiter.restore(state)
                limiter.refill(stored)
                ideal, counted, drawn = limiter.balance, 0, 0

        assert -limiter.bound - CLOSE <= limiter.balance <= limiter.slack + CLOSE
        assert limiter.bound <= limiter.window <= limiter.slack
        assert limiter.filling == (stored < min_size)
        # what is forgiven while filling is the only way the balance leaves its definition, and only downwards
        assert limiter.balance <= ideal + ratio * counted - drawn + CLOSE * max(1.0, ratio * counted)

    for reserved in inserts:  # let everything in flight fail: the worst case for progress
        limiter.commit_insert(0, reserved)
    for reserved in samples:
        limiter.commit_sample(0, reserved)
    for _ in range(20):  # and from then on one side may always go on
        if limiter.room_to_sample() >= sample_quantum:
            sample(limiter, sample_quantum)
        else:
            assert limiter.room_to_insert() >= insert_quantum, "deadlock"
            insert(limiter, insert_quantum)


def test_the_ratio_is_reached_whoever_is_faster() -> None:
    for greedy in ("insert", "sample"):
        limiter = make(ratio=0.7, min_size=50)
        for _ in range(5000):
            may_insert, may_sample = limiter.room_to_insert() >= 10, limiter.room_to_sample() >= 8
            if may_insert and (greedy == "insert" or not may_sample):
                insert(limiter, 10)
            else:
                sample(limiter, 8)
        assert abs(limiter.sampled - 0.7 * (limiter.inserted - 50)) <= limiter.slack + CLOSE
        assert limiter.samples_per_insert == pytest.approx(0.7, rel=0.01)


def played(actors: int, drawn_a_tick: int) -> tuple[float, list[float], list[int]]:
    """Rollouts of 10 transitions, which earn 2 samples each, by `actors` that take 10 to 30 ticks for one; a learner
    draws up to `drawn_a_tick`. Gives the limiter's bound; then, over the last 500 ticks, the balance and the rollouts
    in flight."""
    limiter = SamplesPerInsert(2.0, 1000, 10, 8, insert_depth=actors, sample_depth=2)
    ends, rng = Counter[int](), random.Random(1)
    balances, flying = [], []
    for tick in range(1500):
        for _ in range(ends.pop(tick, 0)):
            limiter.commit_insert(10, 10)
        while ends.total() < actors and limiter.room_to_insert() >= 10:
            limiter.reserve_insert(10)
            ends[tick + rng.randint(10, 30)] += 1
        for _ in range(drawn_a_tick // 8):
            if limiter.room_to_sample() >= 8:
                sample(limiter, 8)
        if tick >= 1000:
            balances.append(limiter.balance)
            flying.append(ends.total())
    return limiter.bound, balances, flying


def test_where_the_learner_is_slower_no_more_is_stored_ahead_than_the_replay_began_with() -> None:
    # 2000 actors earn 2 * 10 * 2000 / 20 samples a tick, and slack is 2 * 10 * 2000; the learner draws an eighth
    bound, balances, flying = played(2000, 256)
    assert bound == 2 * 1000 + 8 * 2
    a_rollout = 256 * 20  # what is drawn while one is played: nothing that is in flight can be held back
    assert max(balances) < bound + 2 * a_rollout < 0.4 * 2 * 10 * 2000
    assert min(balances) > -bound, "the learner never waits"
    assert max(flying) < 1000


def test_where_actors_are_slower_all_of_them_play_and_the_learner_draws_no_more_ahead_than_that() -> None:
    bound, balances, flying = played(2000, 10_000)
    assert sum(flying) > 0.99 * 2000 * len(flying)
    assert min(balances) >= -bound
