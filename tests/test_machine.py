"""What is asked of this machine, asked of the real one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

UPDATES = """
import resource, sys
from distdqn.config import NetworkConfig
from distdqn.learn import learner as module
from distdqn.types import EnvSpec
from tests.learn.conftest import _make_batch
from tests.learn.helpers import make_learner, update

if sys.argv[1] == "giving":
    module.keep_freed_memory = lambda: None
spec = EnvSpec("pixels", (84, 84), "uint8", 4, 6)
learner = make_learner(spec, NetworkConfig(torso="dqn_2015", hidden=(512,)), threads=2)
batch = _make_batch(spec, (16,) * 8)
update(learner, batch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
update(learner, batch)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 8)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_a_learner_on_two_threads_keeps_its_memory() -> None:
    """Page faults of an update."""

    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", UPDATES, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keeping") < faults("giving") / 4
