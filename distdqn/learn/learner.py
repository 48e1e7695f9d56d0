"""The learner: owns the Q-network, its target and the optimiser."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distdqn.config import AgentConfig, LearnerConfig
from distdqn.learn.losses import make_loss
from distdqn.learn.minibatch import ToDevice, cut, split
from distdqn.learn.optimiser import make_optimiser, optimiser_state, restore_optimiser, step_size
from distdqn.machine import cpu_has
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import Batch, EnvSpec, Priorities, State, UpdateStats, Weights


def pick_device(name: str) -> torch.device:
    """The device that `learner.device` names; `auto` is the first CUDA device where there is one.

    Raises:
        ValueError: CUDA is asked for and not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"learner.device={name}: PyTorch finds no CUDA device here, use cpu or auto")
    return torch.device(name)


class Learner:
    """Samples in, priorities and weights out.

    Loop:
        *priorities, stats = learner.update(progress, *batches)   # one Batch from each shard
        weights = learner.weights()
    """

    def __init__(self, agent: AgentConfig, config: LearnerConfig, spec: EnvSpec, seed: int) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(seed)
        self.config = config
        self.device = pick_device(config.device)
        self.online = QNetwork(agent.network, spec).to(self.device)
        self.target = QNetwork(agent.network, spec).to(self.device).requires_grad_(False)
        self.target.load_state_dict(self.online.state_dict())
        self.online.bf16 = self.target.bf16 = self._bf16(spec)
        self.optimiser = make_optimiser(config, self.online.parameters())
        compiled = config.compile == "on" or (
            config.compile == "auto" and self.device.type == "cpu" and spec.pixels
        )
        self.loss = make_loss(agent, spec.stack, self.online, self.target, compiled)
        self.to_device = ToDevice(self.device)
        self.updates = 0
        self.bad_in_a_row = 0
        self.bad_batch: dict[str, Any] = {}

    def _bf16(self, spec: EnvSpec) -> bool:
        if self.config.bf16 != "auto":
            return self.config.bf16 == "on"
        return spec.pixels and (self.device.type == "cuda" or cpu_has("avx512_bf16"))

    def update(self, progress: float, *parts: Batch) -> tuple[Any, ...]:
        """One gradient step on each minibatch that `parts` make up together.

        Args:
            progress: share of the budget in [0, 1], for the step-size schedule.
            parts: what each shard drew, all with the same number of minibatches.

        Returns:
            `Priorities` for each part, then `UpdateStats`. Rows of a skipped update get no priority.
        """
        start = time.perf_counter()
        minibatches = split(parts)
        self._centre(parts)
        lr = step_size(self.config, self.updates, progress)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        figures: list[Tensor] = []
        errors: list[Tensor] = []
        skipped, aborted = 0, False
        for arrays, batch in zip(minibatches, self.to_device(minibatches), strict=True):
            loss, td_abs, q = self.loss(batch)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(
                self.online.parameters(), self.config.max_grad_norm or float("inf"), foreach=True
            )
            if bool(torch.isfinite(norm + loss.detach())):
                self.optimiser.step()
                self.updates += 1
                self.bad_in_a_row = 0
                self._update_target()
                figures.append(torch.stack([loss.detach(), norm.detach(), q.mean(), td_abs.mean()]))
                errors.append(td_abs)
            else:
                skipped += 1
                self.bad_in_a_row += 1
                aborted |= self.bad_in_a_row >= self.config.max_bad_updates
                self.bad_batch = {"loss": str(float(loss.detach())), "grad_norm": str(float(norm)),
                                  "origin": arrays["origin"].tolist()}  # fmt: skip
                errors.append(torch.full_like(td_abs, float("nan")))
        values = cut(parts, [e.float().cpu().numpy() for e in errors])
        mean = torch.stack(figures).mean(0).tolist() if figures else [float("nan")] * 4
        versions = np.concatenate([p.origin[:, 4] for p in parts])
        stats = UpdateStats(
            version=self.updates,
            updates=len(figures),
            samples=sum(len(p) for p in parts),
            loss=mean[0],
            grad_norm=mean[1],
            q_mean=mean[2],
            td_abs=mean[3],
            step_size=lr,
            weights_lag=float(self.updates - versions.mean()),
            seconds=time.perf_counter() - start,
            skipped=skipped,
            aborted=aborted,
            bad_batch=self.bad_batch if skipped else {},
        )
        return *(_priorities(p, v) for p, v in zip(parts, values, strict=True)), stats

    def _centre(self, parts: tuple[Batch, ...]) -> None:
        if self.updates == 0 and self.online.contrast:
            frames = torch.from_numpy(np.concatenate([p.frames for p in parts])).to(self.device)
            self.online.centre(frames)
            self.target.centre(frames)

    @torch.no_grad()
    def _update_target(self) -> None:
        if self.config.target == "polyak":
            torch._foreach_lerp_(
                list(self.target.parameters()), list(self.online.parameters()), self.config.target_tau
            )
        elif self.updates % self.config.target_period == 0:
            self.target.load_state_dict(self.online.state_dict())

    def weights(self) -> Weights:
        """The online network's weights."""
        return Weights(self.updates, self.online.arrays())

    def state(self) -> State:
        """Both networks, the optimiser's moments and the counters, as arrays and plain values."""
        return {
            "online": self.online.arrays(),
            "target": self.target.arrays(),
            "optimiser": optimiser_state(self.optimiser),
            "updates": self.updates,
        }

    def restore(self, state: State) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: the state belongs to another network.
        """
        self.online.load_arrays(state["online"])
        self.target.load_arrays(state["target"])
        restore_optimiser(self.optimiser, state["optimiser"])
        self.updates = int(state["updates"])
        self.bad_in_a_row = 0


def _priorities(part: Batch, values: np.ndarray) -> Priorities:
    good = np.isfinite(values)
    return Priorities(part.key[good], values[good])
