"""What is asked of this machine, asked of the real one."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from distdqn.machine import _cores

COMES_AND_GOES = """
import sys
import numpy as np
import psutil
from distdqn.machine import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
before = psutil.Process().memory_info().rss
arrays = [np.ones(16 << 20, np.uint8) for _ in range(8)]
del arrays
print((psutil.Process().memory_info().rss - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
@pytest.mark.parametrize(("how", "least", "most"), [("keep", 112, 160), ("give back", 0, 16)])
def test_freed_memory_is_kept(how: str, least: int, most: int) -> None:
    """MiB that are resident after 128 have come and gone."""
    command = [sys.executable, "-c", COMES_AND_GOES, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most


def test_a_container_has_the_cores_whose_time_it_is_given(tmp_path: Path) -> None:
    all_of_them = len(os.sched_getaffinity(0))
    assert _cores(tmp_path) == all_of_them
    for text, cores in (("max 100000", all_of_them), ("50000 100000", 1), ("100000 100000", 1), ("", all_of_them)):
        (tmp_path / "cpu.max").write_text(text + "\n")
        assert _cores(tmp_path) == cores
