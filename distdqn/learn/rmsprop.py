"""RMSProp as in DQN 2015."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Tensors = list[Tensor]


class CenteredRMSProp(Optimizer):
    """RMSProp as in DQN 2015: p -= lr g / sqrt(E[g^2] - E[g]^2 + eps), eps inside the root
    (Graves 2013, equations 38 to 45, without momentum; the code of Mnih et al. 2015).

    `torch.optim.RMSprop` adds eps outside, which for eps = 0.01 takes steps ten times as long where
    gradients are small. `lr`: a number, or a scalar tensor beside the parameters. `compiled`: so is a step with
    `found_inf`, which then passes over the memory once.
    """

    found_inf: Tensor | None = None
    """Where this scalar is 1, a step changes nothing: the name that it has in PyTorch's fused optimizers."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float | Tensor, decay: float, eps: float, compiled: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})
        self._advance_unless = torch.compile(_advance_unless, dynamic=False) if compiled else _advance_unless

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients at hand."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p].update(mean=torch.zeros_like(p), square=torch.zeros_like(p))
            grads: list[Tensor] = [p.grad for p in params]
            means = [self.state[p]["mean"] for p in params]
            squares = [self.state[p]["square"] for p in params]
            how = group["lr"], group["decay"], group["eps"]
            if self.found_inf is None:
                _advance(params, means, squares, grads, *how)
            else:
                self._advance_unless(self.found_inf, params, means, squares, grads, *how)


def _advance(
    params: Tensors, means: Tensors, squares: Tensors, grads: Tensors, lr: float | Tensor, decay: float, eps: float
) -> None:
    """A step of `CenteredRMSProp`, in place."""
    torch._foreach_mul_(means, decay)
    torch._foreach_add_(means, grads, alpha=1 - decay)
    torch._foreach_mul_(squares, decay)
    torch._foreach_addcmul_(squares, grads, grads, value=1 - decay)
    roots = torch._foreach_addcmul(squares, means, means, value=-1.0)
    # a variance that rounding made negative by more than eps would have no root
    torch._foreach_clamp_min_(roots, 0.0)
    torch._foreach_add_(roots, eps)
    torch._foreach_sqrt_(roots)
    if isinstance(lr, Tensor):
        torch._foreach_div_(roots, -lr)
        torch._foreach_addcdiv_(params, grads, roots)
    else:
        torch._foreach_addcdiv_(params, grads, roots, value=-lr)


def _advance_unless(
    bad: Tensor,
    params: Tensors,
    means: Tensors,
    squares: Tensors,
    grads: Tensors,
    lr: float | Tensor,
    decay: float,
    eps: float,
) -> None:
    """`_advance` where `bad`, a scalar, is 0; compiled it is one pass over the memory."""
    old = [*params, *means, *squares]
    new = [x.detach().clone() for x in old]
    count = len(params)
    _advance(new[:count], new[count : 2 * count], new[2 * count :], grads, lr, decay, eps)
    for own, later in zip(old, new, strict=True):
        own.copy_(torch.where(bad == 0, later, own))
