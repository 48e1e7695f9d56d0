"""The machines of a run as they are shown."""

from __future__ import annotations

from distdqn.record.machines import latest, machines


def test_a_machine_that_is_gone_is_not_shown_any_more() -> None:
    last = latest({}, {"time_s": 1, "node/a/cpu": 0.5, "node/b.x/cpu": 0.6})
    last = latest(last, {"time_s": 2})
    assert last == {"time_s": 2, "node/a/cpu": 0.5, "node/b.x/cpu": 0.6}  # nobody was looked at
    assert latest(last, {"time_s": 3, "node/a/cpu": 0.7}) == {"time_s": 3, "node/a/cpu": 0.7}


def test_one_machine_that_is_well_is_not_talked_about() -> None:
    assert machines({"node/a/cpu": 0.99, "node/a/memory": 0.5, "node/a/shared_memory": 0.1, "loss": 1}) == ""


def test_several_are_summed_up_in_a_phrase() -> None:
    last = {"node/a/cpu": 0.12, "node/a/memory": 0.3, "node/a/received": 3e6, "node/a/gpu": 0.8}
    last |= {"node/b/cpu": 0.97, "node/b/memory": 0.3, "node/b/received": 9.345e6}
    assert machines(last) == "2 machines, CPU 12% to 97%, memory 30%, GPU 80%, 12.3 MB/s received"


def test_who_is_nearly_full_is_named() -> None:
    assert machines({"node/a/memory": 0.93}) == "a's memory is 93% full"
    last = {f"node/n{i}/shared_memory": 0.91 + i / 100 for i in range(5)}
    shown = machines(last)
    assert shown.startswith("5 machines, n4's shared memory is 95% full, n3's") and shown.endswith("2 more nearly full")
