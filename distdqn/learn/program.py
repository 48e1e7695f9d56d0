"""Gradient steps that never ask the device for a number: called on a CPU, captured once and replayed on a GPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.learn.minibatch import Minibatch
from distdqn.learn.objective import Horizon, Outcome
from distdqn.learn.optimizer import leaves_out, tensors_of


class Gradient(NamedTuple):
    """What a minibatch gave: its outcome, the `norm` of the gradient that is now in the parameters (scalar), and other
    scalars by name."""

    outcome: Outcome
    norm: Tensor
    metrics: Mapping[str, Tensor]

    @property
    def figures(self) -> dict[str, Tensor]:
        """Scalars by name."""
        found = self.outcome
        own = {"loss": found.loss.detach(), "grad_norm": self.norm.detach(), "q_mean": found.q.mean()}
        return {**own, "td_abs": found.priority.mean(), **found.metrics, **self.metrics}


class Row(NamedTuple):
    """What one update gave: scalars by name, and the priorities `[B]`."""

    figures: Mapping[str, Tensor]
    priority: Tensor


def may_capture(agent: AgentConfig, config: LearnerConfig, on_gpu: bool) -> bool:
    """Whether updates go through a `Program`: on a GPU, or where that is asked for, unless a part of the agent's needs
    the host in the middle of an update."""
    return agent.bonus.kind == "none" and (config.capture == "on" or (config.capture == "auto" and on_gpu))


class CannotCapture(Exception):
    """An update needs the host in its middle."""


class Program:
    """Update after update on the same tensors, without a wait. One that is not finite changes nothing, and neither does
    any after it, until `read`, which waits, tells how many were well.

    On a GPU an update is some hundred kernels, each of which takes longer to be launched from Python than to run. So
    it is captured as one CUDA graph, and replayed: minibatch, learning rate, discount, random numbers and place in the
    table of figures are read from the same memory every time.

    Args:
        gradient: makes the gradient of a minibatch, from a horizon whose discount may be a tensor `[B]`.
        apply: takes the step, with all that follows it at every update.
        optimizer: takes the step in `apply`; it has taken one before.
        others: tensors that `gradient` and `apply` change beside the optimizer's own.
        generators: draw all random numbers, and are seeded before each update.
        names: of the figures that `gradient` gives.
        device: of all tensors.
    """

    def __init__(
        self,
        gradient: Callable[[Minibatch, Horizon], Gradient],
        apply: Callable[[], None],
        optimizer: Optimizer,
        others: Sequence[Tensor],
        generators: Sequence[torch.Generator],
        names: Sequence[str],
        device: torch.device,
    ) -> None:
        self.gradient, self.apply, self.optimizer, self.device = gradient, apply, optimizer, device
        self.generators, self.names = generators, names
        self.leaves_out = leaves_out(optimizer)
        self.changed = [*others, *([] if self.leaves_out else tensors_of(optimizer))]
        self.before = [torch.empty_like(x) for x in self.changed]
        self.ok = torch.ones((), dtype=torch.bool, device=device)
        self.at = torch.zeros(1, dtype=torch.int64, device=device)
        self.table, self.discount = torch.empty(0, 0, device=device), torch.empty(0, device=device)
        self.graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._begun = set[tuple[int, int]]()

    def begin(self, updates: int, rows: int) -> None:
        """At most so many updates follow, of minibatches of so many rows."""
        width = 1 + len(self.names) + rows
        if len(self.table) < updates or self.table.shape[1] != width:
            self.table = torch.empty(updates, width, device=self.device)
            self.discount = torch.empty(rows, device=self.device)
            self.graphs.clear()
            self._begun.clear()
        self.ok.fill_(True)
        self.at.zero_()

    def __call__(self, batch: Minibatch, horizon: Horizon) -> None:
        """One update. Raises `CannotCapture`: it was not made, since something in it needs the host."""
        self.discount.fill_(horizon.discount)
        if self.device.type != "cuda":
            self._update(batch, horizon.n)
            return
        key = batch.frames.data_ptr(), horizon.n
        if key not in self._begun:  # what is compiled or set up at the first use must not be within the capture
            self._begun.add(key)
            self._update(batch, horizon.n)
            return
        if key not in self.graphs:
            self.graphs[key] = self._capture(batch, horizon.n)
        self.graphs[key].replay()

    def read(self) -> list[Row]:
        """Waits; gives what each update gave since `begin`, up to the first that was not finite."""
        table = self.table[: int(self.at)].cpu()
        well = int(table[:, 0].sum()) if len(table) else 0
        scalars = 1 + len(self.names)
        return [Row(dict(zip(self.names, row[1:scalars], strict=True)), row[scalars:]) for row in table[:well]]

    def _capture(self, batch: Minibatch, n: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        stream = torch.cuda.current_stream(self.device)
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._update(batch, n)
        except Exception as error:  # whatever a part of one's own raises where it finds no number
            torch.cuda.set_stream(stream)
            raise CannotCapture(" ".join(str(error).split())[:300]) from error
        return graph

    def _update(self, batch: Minibatch, n: int) -> None:
        with torch.no_grad():
            if self.changed:
                torch._foreach_copy_(self.before, self.changed)
        found = self.gradient(batch, Horizon(n, self.discount))
        self.ok.logical_and_(torch.isfinite(found.norm + found.outcome.loss.detach()))
        self._step()
        figures = found.figures
        row = torch.stack([x.float() for x in (self.ok, *(figures[name] for name in self.names))])
        self.table.index_copy_(0, self.at, torch.cat([row, found.outcome.priority.float()]).unsqueeze(0))
        self.at.add_(1)

    @torch.no_grad()
    def _step(self) -> None:
        if self.leaves_out:
            self.optimizer.found_inf = 1 - self.ok.float()  # type: ignore[attr-defined]
        try:
            self.apply()
        finally:
            if self.leaves_out:
                self.optimizer.found_inf = None  # type: ignore[attr-defined]
        for new, old in zip(self.changed, self.before, strict=True):
            torch.where(self.ok, new, old, out=new)
