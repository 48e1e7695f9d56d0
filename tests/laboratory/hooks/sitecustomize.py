"""Imported by every Python process of a run that is to be disturbed: what signals from outside do to it there.

SIGUSR1 raises, as soon as the process is in code of the package. SIGUSR2 stands still, as an emulator may.
SIGXCPU takes DISTDQN_HOG MiB of memory first. At SIGXFSZ the disk is full for the files that DISTDQN_FULL, a regular
expression, is found in, until it comes again.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

AGAIN_SECONDS = 0.002
HOGGED: list[bytearray] = []
FULL = re.compile(os.environ.get("DISTDQN_FULL", "(?!)"))
KEPT: dict[int, int] = {}
"""While the disk is full: descriptors that lead to /dev/full, and what they are otherwise. The first one is no file."""


def fail(number: int, frame: FrameType | None) -> None:
    """Raises where the package is at work, and comes back a little later where it is not."""
    while frame is not None:
        if f"{os.sep}distdqn{os.sep}" in frame.f_code.co_filename and "sitecustomize" not in frame.f_code.co_filename:
            raise RuntimeError("a fault that was ordered")
        frame = frame.f_back
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def hang(number: int, frame: FrameType | None) -> None:
    """Gives no answer any more."""
    time.sleep(3600)


def hog(number: int, frame: FrameType | None) -> None:
    """Takes memory, until somebody ends this process."""
    HOGGED.extend(bytearray(b"x") * (64 * 1024**2) for _ in range(int(os.environ["DISTDQN_HOG"]) // 64))
    hang(number, frame)


def fill(number: int, frame: FrameType | None) -> None:
    """Makes the disk full, or gives room again."""
    if KEPT:
        for descriptor, kept in KEPT.items():
            if descriptor >= 0:
                os.dup2(kept, descriptor)
                os.close(kept)
        KEPT.clear()
        return
    KEPT[-1] = -1
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if FULL.search(os.readlink(f"/proc/self/fd/{name}")):
                KEPT[int(name)], full = os.dup(int(name)), os.open("/dev/full", os.O_RDWR)
                os.dup2(full, int(name))
                os.close(full)


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Nothing new finds a place on a full disk."""
    if not KEPT or event not in ("open", "os.mkdir") or not FULL.search(os.path.abspath(str(arguments[0]))):
        return
    writes = event == "os.mkdir" or arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes and isinstance(arguments[0], str | os.PathLike):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), arguments[0])


sys.addaudithook(refuse)
signal.signal(signal.SIGXFSZ, fill)
signal.signal(signal.SIGUSR1, fail)
signal.signal(signal.SIGALRM, fail)
signal.signal(signal.SIGUSR2, hang)
signal.signal(signal.SIGXCPU, hog)
