"""A host on which the interpreter is of another version. Needs one that has Ray, NumPy and psutil, which launch/test.sh
makes where it finds another Python."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster.hosts import Hosts, run

OTHER = os.environ.get("DISTDQN_OTHER_PYTHON", "")


@functools.cache
def missing() -> str:
    """Why there can be no such host here; empty where there can."""
    if not OTHER:
        return "DISTDQN_OTHER_PYTHON names no Python of another version"
    tried = subprocess.run([OTHER, "-c", "import numpy, psutil, ray"], cwd="/", capture_output=True, text=True)
    return f"{OTHER}: {tried.stderr.strip().splitlines()[-1]}" if tried.returncode else ""


def version() -> str:
    """As 3.12.1."""
    return run(OTHER, "-c", "import platform; print(platform.python_version())").strip()


@contextmanager
def on(hosts: Hosts, i: int, folder: Path) -> Iterator[None]:
    """What starts this interpreter on host i starts the other one as long as this lasts."""
    ours = Path(sys.executable)
    there = folder / "bin"
    there.mkdir(exist_ok=True)
    (there / ours.name).write_text(f'#!/bin/sh\nexec {OTHER} "$@"\n')
    (there / ours.name).chmod(0o755)
    run(*hosts.on(i, "mount", "--bind", there, ours.parent))
    try:
        yield
    finally:
        run(*hosts.on(i, "umount", ours.parent))
