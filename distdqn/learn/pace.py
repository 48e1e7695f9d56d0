"""How the work of an update is laid out over threads: one thing after the other, or two side by side on a CPU."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.learn.device import has_triton
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.weight_gradients import WeightGradients
from distdqn.machine import keep_freed_memory
from distdqn.nets.qnetwork import QNetwork

Prepare = Callable[[Minibatch, int], Any]
"""A minibatch and the number of its update, to what the loss starts from."""
Ready = Iterator[tuple[Minibatch, Any]]
"""Minibatches, each with what was prepared of it."""


class Pace:
    """One thing after the other. `Learner.update` has the loop over what is `prepared`.

    Args:
        prepare: makes of a minibatch what the loss starts from.
        threads: CPU threads that share one operation. compiled: whether the loss is to be compiled.
    """

    def __init__(self, prepare: Prepare, threads: int, compiled: bool) -> None:
        self.prepare, self.threads, self.compiled = prepare, threads, compiled

    def prepared(self, batches: Iterable[Minibatch], updates: Callable[[], int], jumps: Callable[[int], bool]) -> Ready:
        """Each minibatch with what `prepare` made of it.

        Args:
            updates: gives the number of updates made so far.
            jumps: whether the target network, which `prepare` computes with, changes after so many updates.
        """
        for batch in batches:
            yield batch, self.prepare(batch, updates())

    def backward(self, loss: Tensor) -> None:
        """Computes the gradients."""
        loss.backward()


class SideBySide(Pace):
    """A second thread prepares the next minibatch while this one is learned from, and computes gradients of weights
    where `gradients` are given. On a CPU two threads that do different things are faster than two that share each
    operation: nobody waits for the other at the end of every layer, least of all while another process has its core."""

    def __init__(self, prepare: Prepare, threads: int, compiled: bool) -> None:
        super().__init__(prepare, threads, compiled)
        self.pool = ThreadPoolExecutor(1, "ahead", torch.set_num_threads, (1,))
        self.gradients: WeightGradients | None = None

    def prepared(self, batches: Iterable[Minibatch], updates: Callable[[], int], jumps: Callable[[int], bool]) -> Ready:
        everything = list(batches)
        ahead: tuple[int, Future[Any]] | None = None
        for i, batch in enumerate(everything):
            number = updates()
            ready = ahead[1].result() if ahead else None
            if ahead is None or ahead[0] != number:  # an update was left out since
                ready = self.pool.submit(self.prepare, batch, number).result()
            ahead = None
            if i + 1 < len(everything) and not jumps(number + 1):
                ahead = number + 1, self.pool.submit(self.prepare, everything[i + 1], number + 1)
            yield batch, ready

    def backward(self, loss: Tensor) -> None:
        with self.gradients or nullcontext():
            loss.backward()


def make_pace(
    agent: AgentConfig, config: LearnerConfig, device: torch.device, pixels: bool, network: QNetwork, prepare: Prepare
) -> Pace:
    """The pace for a learner of the online `network` on `device`. Where two threads can share the backward pass, that
    gains more than to compile it, which would not go with it."""
    on_cpu, wanted = device.type == "cpu", config.compile
    aside = on_cpu and config.threads > 1 and config.target.kind == "period" and agent.transitions
    plain = not agent.network.head.noisy and agent.network.torso.normalize != "spectral"
    shared = aside and config.threads == 2 and plain and wanted != "on"
    compiled = wanted == "on" or (wanted == "auto" and pixels and not shared and (on_cpu or has_triton()))
    if not aside:
        return Pace(prepare, config.threads, compiled)
    pace = SideBySide(prepare, config.threads - 1, compiled)
    if shared:
        pace.gradients = WeightGradients(network, pace.pool.submit)
        keep_freed_memory()
    return pace
