"""What one call of the learner did: priorities for the shards, and figures for people."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distdqn.learn.minibatch import cut
from distdqn.learn.objective import Outcome
from distdqn.types import Batch, Priorities, UpdateStats


class Report:
    """Takes in each update of one call, in order. `parts`: what each shard drew."""

    def __init__(self, parts: Sequence[Batch]) -> None:
        self.parts, self.start = parts, time.perf_counter()
        self.skipped, self.aborted, self.bad_batch = 0, False, dict[str, Any]()
        self._metrics: list[Mapping[str, Tensor]] = []
        self._priorities: list[Tensor] = []

    def did(self, figures: Mapping[str, Tensor], priority: Tensor) -> None:
        """An update: scalars by name, and the new `priority` `[B]` of its rows."""
        self._metrics.append(figures)
        self._priorities.append(priority)

    @property
    def names(self) -> list[str]:
        """Of the scalars; none before the first update."""
        return list(dict.fromkeys(name for metrics in self._metrics for name in metrics))

    def skip(self, found: Outcome, norm: Tensor, origin: np.ndarray, abort: bool) -> None:
        """An update that was left out: its loss or the `norm` of its gradient was not finite. Its rows get no
        priority; `origin` int64 `[B, 6]` says where they came from. `abort`: it was one too many."""
        self.skipped += 1
        self.aborted |= abort
        loss = float(found.loss.detach())
        self.bad_batch = {"loss": str(loss), "grad_norm": str(float(norm)), "origin": origin.tolist()}
        self._priorities.append(torch.full_like(found.priority, float("nan")))

    def priorities(self) -> list[Priorities]:
        """Those of each part."""
        values = cut(self.parts, [p.float().cpu().numpy() for p in self._priorities])
        return [Priorities(p.key[np.isfinite(v)], v[np.isfinite(v)]) for p, v in zip(self.parts, values, strict=True)]

    def stats(self, version: int, positions: int, learning_rate: float) -> UpdateStats:
        """The figures; `positions` of each window count as samples, `version` is the number of updates by now."""
        names = self.names
        there = {x.device for m in self._metrics for x in m.values()}
        device = there.pop() if len(there) == 1 else torch.device("cpu")
        means = [torch.stack([m[name].to(device) for m in self._metrics if name in m]).mean() for name in names]
        values = torch.stack(means).tolist() if means else []
        versions = np.concatenate([p.origin[:, 4] for p in self.parts])
        return UpdateStats(
            version=version,
            updates=len(self._metrics),
            samples=sum(len(p) for p in self.parts) * positions,
            metrics={**dict(zip(names, values, strict=True)), "step_size": learning_rate},
            weights_lag=float(version - versions.mean()),
            seconds=time.perf_counter() - self.start,
            skipped=self.skipped,
            aborted=self.aborted,
            bad_batch=self.bad_batch,
        )
