"""Imported by every Python process of a run that is to be disturbed: what signals from outside do to it there.

SIGUSR1 raises, as soon as the process is in code of the package. SIGUSR2 stands still, as an emulator may.
SIGXCPU takes DISTDQN_HOG MiB of memory first.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

AGAIN_SECONDS = 0.002
HOGGED: list[bytearray] = []


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


signal.signal(signal.SIGUSR1, fail)
signal.signal(signal.SIGALRM, fail)
signal.signal(signal.SIGUSR2, hang)
signal.signal(signal.SIGXCPU, hog)
