"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from distdqn.config import OptimizerConfig
from distdqn.learn.rmsprop import CenteredRMSProp


def make_optimizer(config: OptimizerConfig, params: Iterable[nn.Parameter], compiled: bool = False) -> Optimizer:
    """The optimizer that `config` names. AdamW's decay leaves biases and normalization alone. `compiled`: so is what is
    written here; PyTorch has one pass for the others.

    On a CUDA device it can be captured: what changes from step to step is on the device, its learning rate too.
    """
    params = list(params)
    cuda, device = params[0].is_cuda, params[0].device
    lr = torch.tensor(config.learning_rate, device=device) if cuda else config.learning_rate
    epsilon = config.epsilon or (0.01 if config.kind == "rmsprop" else 1.5e-4)
    if config.kind == "adam":
        return torch.optim.Adam(params, lr=lr, eps=epsilon, fused=True, capturable=cuda)
    if config.kind == "adamw":
        groups = [
            {"params": [p for p in params if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in params if p.dim() <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=lr, eps=epsilon, fused=True, capturable=cuda)
    if config.kind == "sgd":
        return torch.optim.SGD(params, lr=lr, momentum=config.momentum, fused=cuda)
    if config.centered:
        return CenteredRMSProp(params, lr, config.decay, epsilon, compiled and cuda)
    return torch.optim.RMSprop(params, lr, config.decay, epsilon, momentum=config.momentum, capturable=cuda)


def leaves_out(optimizer: Optimizer) -> bool:
    """Whether its step itself changes nothing where its attribute `found_inf`, a scalar tensor, is 1."""
    return isinstance(optimizer, CenteredRMSProp) or bool(optimizer.defaults.get("fused"))


def tensors_of(optimizer: Optimizer) -> list[Tensor]:
    """All that a step changes: parameters, and moments where it has made a step before."""
    moments = [x for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
    return [*(p for group in optimizer.param_groups for p in group["params"]), *moments]


def forget_moments(optimizer: Optimizer) -> None:
    """As before the first step, in place."""
    for state in optimizer.state.values():
        for moment in state.values():
            if isinstance(moment, Tensor):
                moment.zero_()


def learning_rate(config: OptimizerConfig, updates: int, progress: float) -> float:
    """The learning rate after `updates` gradient steps and `progress` in [0, 1] of the budget.

    `inverse` is learning_rate / (1 + schedule_decay k), the Robbins-Monro form.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.schedule == "linear":
        return config.learning_rate * (1 - progress)
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
    if config.schedule == "inverse":
        return config.learning_rate / (1 + config.schedule_decay * updates)
    return config.learning_rate


def set_learning_rate(optimizer: Optimizer, config: OptimizerConfig, updates: int, progress: float) -> float:
    """Gives `optimizer` its `learning_rate`, and the caller too."""
    lr = learning_rate(config, updates, progress)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
    return lr


def clip_gradients(config: OptimizerConfig, params: list[nn.Parameter], may_read: bool = True) -> Tensor:
    """Clips the gradients by value, then by norm; gives the norm in between, a scalar. `may_read`: this may wait for
    the device to see whether there is anything to clip."""
    if config.max_grad_value is not None:
        torch.nn.utils.clip_grad_value_(params, config.max_grad_value, foreach=True)
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads, foreach=True)
    limit = config.max_grad_norm
    if limit is not None and may_read:
        if bool(norm > limit):  # within it, a pass over all gradients would multiply by 1
            torch._foreach_mul_(grads, limit / (norm + 1e-6))
    elif limit is not None:
        torch._foreach_mul_(grads, torch.where(norm > limit, limit / (norm + 1e-6), 1.0))
    return norm


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's moments as arrays, by parameter number and name; settings come from the config."""
    state = optimizer.state_dict()["state"].items()
    return {str(i): {k: v.detach().cpu().numpy().copy() for k, v in s.items() if v is not None} for i, s in state}


def _moments(optimizer: Optimizer) -> set[str]:
    momentum = {"momentum_buffer"} if optimizer.defaults.get("momentum") else set()
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return {"step", "exp_avg", "exp_avg_sq"}
    if isinstance(optimizer, torch.optim.RMSprop):
        return {"step", "square_avg"} | momentum
    return {"mean", "square"} if isinstance(optimizer, CenteredRMSProp) else momentum


def restore_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Takes over what `optimizer_state` gave; ValueError where that belongs to another network or optimizer."""
    own = optimizer.state_dict()
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    for i, moments in state.items():
        if moments.keys() != _moments(optimizer):
            raise ValueError("this optimizer state belongs to another optimizer: learner.optimizer.kind differs")
        if int(i) >= len(shapes) or any(v.ndim and v.shape != shapes[int(i)] for v in moments.values()):
            raise ValueError("this optimizer state belongs to another network")
    own["state"] = {int(i): {k: torch.from_numpy(v.copy()) for k, v in s.items()} for i, s in state.items()}
    optimizer.load_state_dict(own)
    for p, moments in optimizer.state.items():
        for name, moment in moments.items():
            if (
                isinstance(moment, Tensor) and moment.shape == p.shape
            ):  # fused, it takes them to lie in memory as p does
                moments[name] = torch.empty_like(p, dtype=moment.dtype).copy_(moment)
