"""Which results have come: told of by whoever makes them, so that nobody looks at all of those that have not."""

import queue
import time
from collections.abc import Callable, Collection
from typing import Any

from distdqn.runtime.engine import Ref

SWEEP_SECONDS = 1.0
"""All results that somebody waits for are looked at so often, whether they were told of or not."""


class News:
    """Results as they come, told of from any thread. `look`: those of many that are there."""

    def __init__(self, look: Callable[[list[Ref]], list[Ref]]) -> None:
        self._look = look
        self._told: queue.SimpleQueue[Ref] = queue.SimpleQueue()
        self._next_sweep = 0.0

    def tell(self, ref: Ref) -> Callable[[Any], None]:
        """What is to be called once `ref` is there."""
        return lambda _: self._told.put(ref)

    def follow(self, ref: Ref) -> Ref:
        """Has Ray tell of `ref`."""
        ref._on_completed(self.tell(ref))
        return ref

    def of(self, refs: Collection[Ref], timeout: float) -> list[Ref]:
        """Those of `refs` that have come since the last time, after at most `timeout` seconds; at once where there is
        one. Of others nobody will want to know any more."""
        end = time.monotonic() + timeout
        if refs and time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
            if there := self._look(list(refs)):
                return there
        while refs:
            try:
                told = {self._told.get(timeout=max(0.0, end - time.monotonic())): None}
            except queue.Empty:
                break
            while not self._told.empty():
                told[self._told.get()] = None
            if wanted := [ref for ref in told if ref in refs]:
                return wanted
        return []
