"""What one call of the learner did: priorities for the shards, and figures for people."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distdqn.learn.minibatch import cut
from distdqn.types import Batch, Priorities, UpdateStats


class Report:
    """Takes in each update of one call, in order.

    Args:
        parts: what each shard drew.
    """

    def __init__(self, parts: Sequence[Batch]) -> None:
        self.parts, self.start = parts, time.perf_counter()
        self.skipped, self.bad_batch = 0, dict[str, Any]()
        self._metrics: list[Mapping[str, Tensor]] = []
        self._priorities: list[Tensor] = []

    def did(self, metrics: Mapping[str, Tensor], priority: Tensor) -> None:
        """An update with the scalars `metrics` and the new priorities `[B]`."""
        self._metrics.append(metrics)
        self._priorities.append(priority)

    def skip(self, loss: Tensor, norm: Tensor, priority: Tensor, origin: np.ndarray) -> None:
        """An update that was left out: its `loss` or the `norm` of its gradient was not finite. Its rows get no
        priority; `origin` int64 `[B, 6]` says where they came from."""
        self.skipped += 1
        self.bad_batch = {"loss": str(float(loss)), "grad_norm": str(float(norm)), "origin": origin.tolist()}
        self._priorities.append(torch.full_like(priority, float("nan")))

    def priorities(self) -> list[Priorities]:
        """Those of each part."""
        values = cut(self.parts, [p.float().cpu().numpy() for p in self._priorities])
        return [
            Priorities(p.key[good], v[good])
            for p, v in zip(self.parts, values, strict=True)
            for good in (np.isfinite(v),)
        ]

    def stats(self, version: int, positions: int, learning_rate: float, aborted: bool) -> UpdateStats:
        """The figures; `positions` of each window count as samples, `version` is the number of updates by now."""
        names = list(dict.fromkeys(name for metrics in self._metrics for name in metrics))
        means = [torch.stack([m[name] for m in self._metrics if name in m]).mean() for name in names]
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
            aborted=aborted,
            bad_batch=self.bad_batch,
        )
