"""What the tests on several hosts share."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.cluster import hosts, slurm

KEYS = (
    "budget.env_frames=100000000",
    "replay.min_size=1000",
    "replay.shards=2",
    "actors.rollout_steps=32",
    "learner.samples_per_insert=1",
    "checkpoint.every_seconds=1000",
    "evaluation.every_seconds=null",
    "log_every_seconds=1",
    "screen=lines",
    "track=disabled",
)
"""Of a run that goes on until it is ended."""


def cluster_only(with_slurm: bool = False, also: Callable[[], str] = lambda: "") -> list[pytest.MarkDecorator]:
    """Marks of tests that run where that is asked for and hosts can be made, with `with_slurm` a Slurm on them. `also`
    says what else is missing."""
    why = "launch/test.sh --cluster runs it"
    if os.environ.get("DISTDQN_CLUSTER"):
        why = hosts.missing() or (slurm.missing() if with_slurm else "") or also()
    return [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.skipif(bool(why), reason=why)]
