"""A second thread for the learner on a CPU, which prepares the next minibatch while this one is learned from."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Prepare = Callable[[Any, int], Any]
"""A minibatch and the number of the update that it is for, to what the update starts from."""


class Ahead:
    """Prepares minibatches on a thread of its own, one ahead of the caller.

    On a CPU two threads that do different things are faster than two that share each operation: nobody waits for the
    other at the end of every layer, least of all while another process has its core.

    Loop:
        ahead.prepare(batches[0], number)
        ready = ahead.take(batches[0], number)
        ahead.prepare(batches[1], number + 1)      # goes on beside the caller
    """

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._pool = ThreadPoolExecutor(1, "ahead", torch.set_num_threads, (1,))
        self._announced: tuple[Any, int, Future[Any]] | None = None

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Begins something else on that thread, when it is free."""
        return self._pool.submit(job)

    def prepare(self, batch: Any, number: int) -> None:
        """Begins with `batch`, which nothing may change until it is taken."""
        self._announced = batch, number, self._pool.submit(self._prepare, batch, number)

    def take(self, batch: Any, number: int) -> Any:
        """What is prepared for `batch` as update `number`; made now if something else was announced.

        Raises:
            Exception: whatever preparing what was announced, or this, has raised.
        """
        announced, self._announced = self._announced, None
        if announced is not None:
            ready = announced[2].result()
            if announced[0] is batch and announced[1] == number:
                return ready
        return self._pool.submit(self._prepare, batch, number).result()
