from __future__ import annotations

import pytest

from tests.laboratory.updates import measure, operations

SMALL = ["learner.device=cpu", "learner.batch_size=4", "learner.updates_per_call=2", "learner.compile=off"]


def test_how_many_kernels_an_update_is() -> None:
    plain, noisy = (operations(["experiment=catch", *more]) for more in ([], ["agent.network.head.noisy=true"]))
    assert 50 < plain < noisy
    with pytest.raises(AssertionError, match="needs the host"):
        operations(["experiment=catch", "agent.bonus.kind=ngu"])


def test_those_that_fail_say_so_and_others_are_measured() -> None:
    wrong, right = measure(0.1, ["no-such", "catch"], SMALL)
    assert wrong["failed"].startswith("ConfigError: experiment=no-such")
    assert right["updates/s"] > 0 and right["step by step: updates/s"] > 0 and "failed" not in right
