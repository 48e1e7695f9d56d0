"""The matrix of faults: whom, how and when."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

COMPONENTS = {"actor": 1, "actors": 2, "shard": 1, "shards": 2, "learner": 1, "evaluator": 1}
"""Whom, and how many of them."""
KINDS = ("actor", "shard", "learner", "evaluator")
MACHINES = ("node", "learner's node", "head")
"""Of a cluster of three: the one that the learner is not on, the one that it is on, the one beside the driver."""
FULL = {
    "metrics": r"/metrics\.jsonl",
    "summary": r"/\.summary\.json",
    "best": r"/\.?best\.json",
    "checkpoints": r"/checkpoints/\.tmp-",
    "replay": "/run/replay/",
    "videos": "/videos/",
    "tensorboard": "/tensorboard/",
    "all files": r"/run/(?!run\.lock)",
}
"""Where the disk is full, and what is found in those files' paths."""
WHENS = ("start", "filling", "learning", "saving", "evaluating", "ending")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGSTOP")


@dataclass(frozen=True)
class Cell:
    """One run. `to` is "process" or "group"."""

    whom: str
    how: str
    when: str
    to: str = "process"

    def __str__(self) -> str:
        return f"{self.whom} {self.how} while {self.when}{' (group)' * (self.to == 'group')}"

    @property
    def survived(self) -> bool | None:
        """Whether the run is to go on by itself; None where it may give up, too, after it has saved."""
        if self.whom == "head":
            return False
        if self.whom == "disk" and self.when == "ending":  # what is not there is not done
            return self.how not in ("summary", "checkpoints", "all files")
        if self.whom in ("driver", "raylet"):
            return self.how == "SIGSTOP"
        if self.how in ("crash loop", "memory"):
            # the last evaluation is tried three times: without it a run is not done
            return True if self.whom == "evaluator" and self.how == "crash loop" and self.when != "ending" else None
        return True

    @property
    def codes(self) -> tuple[int, ...]:
        """Exit codes of a run that does not go on by itself."""
        if self.whom == "driver":
            if self.how in ("SIGTERM", "SIGINT"):
                return (0, 3) if self.when == "ending" else (3,)  # it may have come after the last game
            return {"SIGKILL": (-9,), "exception": (1,)}[self.how]
        if (self.whom, self.how) == ("disk", "checkpoints"):
            return (0, 3)  # the last one may have been saved before
        return (1, 3) if self.whom in ("raylet", "head") else (3,)


def cells(whom: Iterable[str] = ()) -> list[Cell]:
    """The matrix, or those of its rows."""
    running = WHENS[1:]
    found = [Cell(*c) for c in itertools.product(COMPONENTS, ("SIGKILL", "SIGSTOP"), WHENS)]
    found += [Cell(*c) for c in itertools.product(KINDS, ("exception", "hang"), WHENS)]
    found += [Cell(*c) for c in itertools.product(KINDS, ("crash loop",), running)]
    found += [Cell(*c) for c in itertools.product(KINDS, ("memory",), ("filling", "learning"))]
    found += [Cell("driver", *c) for c in itertools.product(SIGNALS, WHENS, ("process", "group"))]
    found += [Cell("driver", "exception", when) for when in running]
    found += [Cell("raylet", "SIGKILL", when) for when in running]
    found += [Cell(*c) for c in itertools.product(MACHINES[:2], ("SIGKILL", "SIGSTOP"), running)]
    found += [Cell("head", "SIGKILL", when) for when in running]
    found += [Cell("W&B", *c) for c in itertools.product(("gone", "silent"), ("start", "learning", "ending"))]
    found += [Cell("disk", *c) for c in itertools.product(FULL, ("learning", "ending"))]
    return [c for c in found if not whom or c.whom in whom or c.how in whom]
