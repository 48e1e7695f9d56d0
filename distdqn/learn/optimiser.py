"""Optimisers and step-size schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from distdqn.config import LearnerConfig


class CentredRMSProp(torch.optim.Optimizer):
    """RMSProp as in DQN 2015: p -= lr g / sqrt(E[g^2] - E[g]^2 + eps), eps inside the root
    (Graves 2013, equations 38 to 45, without momentum; the code of Mnih et al. 2015).

    `torch.optim.RMSprop` adds eps outside, which for eps = 0.01 takes steps ten times as long where
    gradients are small.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, decay: float, eps: float) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p]["mean"] = torch.zeros_like(p)
                    self.state[p]["square"] = torch.zeros_like(p)
            grads: list[Tensor] = [p.grad for p in params]
            means = [self.state[p]["mean"] for p in params]
            squares = [self.state[p]["square"] for p in params]
            decay = group["decay"]
            torch._foreach_mul_(means, decay)
            torch._foreach_add_(means, grads, alpha=1 - decay)
            torch._foreach_mul_(squares, decay)
            torch._foreach_addcmul_(squares, grads, grads, value=1 - decay)
            roots = torch._foreach_addcmul(squares, means, means, value=-1.0)
            # a variance that rounding made negative by more than eps would have no root
            torch._foreach_clamp_min_(roots, 0.0)
            torch._foreach_add_(roots, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_addcdiv_(params, grads, roots, value=-group["lr"])


def make_optimiser(config: LearnerConfig, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that `learner.optimiser` names. AdamW's decay leaves biases and normalisation alone."""
    params = list(params)
    if config.optimiser == "adam":
        return torch.optim.Adam(params, lr=config.step_size, eps=config.adam_epsilon, fused=True)
    if config.optimiser == "adamw":
        groups = [
            {"params": [p for p in params if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in params if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=config.step_size, eps=config.adam_epsilon, fused=True)
    if config.optimiser == "rmsprop" and not config.rmsprop_centred:
        return torch.optim.RMSprop(
            params, config.step_size, config.rmsprop_decay, config.rmsprop_epsilon, momentum=config.momentum
        )
    if config.optimiser == "rmsprop":
        return CentredRMSProp(params, config.step_size, config.rmsprop_decay, config.rmsprop_epsilon)
    return torch.optim.SGD(params, lr=config.step_size, momentum=config.momentum)


def step_size(config: LearnerConfig, updates: int, progress: float) -> float:
    """The step size after `updates` gradient steps and `progress` in [0, 1] of the budget.

    `inverse` is step_size / (1 + schedule_decay k), the Robbins-Monro form.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.schedule == "linear":
        return config.step_size * (1 - progress)
    if config.schedule == "cosine":
        return config.step_size * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "inverse":
        return config.step_size / (1 + config.schedule_decay * updates)
    return config.step_size


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimiser's moments as arrays, by parameter number and name; settings come from the config."""
    state = optimiser.state_dict()["state"]
    return {str(i): {k: v.detach().cpu().numpy().copy() for k, v in s.items() if v is not None}
            for i, s in state.items()}  # fmt: skip


def _moments(optimiser: torch.optim.Optimizer) -> set[str]:
    """What the optimiser remembers of each parameter."""
    if isinstance(optimiser, (torch.optim.Adam, torch.optim.AdamW)):
        return {"step", "exp_avg", "exp_avg_sq"}
    if isinstance(optimiser, torch.optim.RMSprop):
        return {"step", "square_avg"} | ({"momentum_buffer"} if optimiser.defaults["momentum"] else set())
    if isinstance(optimiser, CentredRMSProp):
        return {"mean", "square"}
    return {"momentum_buffer"} if optimiser.defaults["momentum"] else set()


def restore_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Takes over what `optimiser_state` of the same optimiser over the same network gave.

    Raises:
        ValueError: moments of another network or optimiser.
    """
    own = optimiser.state_dict()
    shapes = [p.shape for group in optimiser.param_groups for p in group["params"]]
    for i, moments in state.items():
        if moments.keys() != _moments(optimiser):
            raise ValueError("this optimiser state belongs to another optimiser: learner.optimiser differs")
        wrong = int(i) >= len(shapes) or any(v.ndim and v.shape != shapes[int(i)] for v in moments.values())
        if wrong:
            raise ValueError("this optimiser state belongs to another network")
    own["state"] = {int(i): {k: torch.from_numpy(v.copy()) for k, v in s.items()} for i, s in state.items()}
    optimiser.load_state_dict(own)
