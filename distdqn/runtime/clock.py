"""The time that a coordinator goes by: that of this machine, or one that is made up."""

from typing import Protocol


class Clock(Protocol):
    """What it needs of the module `time`, which is one."""

    def monotonic(self) -> float:
        """Seconds since some moment; they never go back."""

    def sleep(self, seconds: float, /) -> None:
        """Lets so many of them pass."""
