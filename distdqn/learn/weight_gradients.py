"""Gradients of weights, computed on another thread while the gradient goes on through the network."""

from collections.abc import Callable
from concurrent.futures import Future
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Gradient = tuple[Tensor, Tensor | None]
"""Of a layer's weight and of its bias, if it has one."""
Job = Callable[[], Gradient]

LEAST = 1 << 16
"""Weights of a fully connected layer for which handing the job over costs less than it saves."""


class WeightGradients:
    """Has the weight gradients of a network's wide layers computed by `submit`, on another thread.

    The gradient of a layer's weights is needed by nobody before the whole backward pass is done, while that of its
    input is what the pass goes on with. So on a CPU the two are computed side by side. With one thread each, what
    comes out is the same to the bit (but for the order in which more than two contributions to one are added).

    After `with gradients: loss.backward()` every parameter has its `grad`.

    Args:
        network: its convolutions and wide fully connected layers are changed in place, other layers stay.
        submit: begins a job on a thread that may be busy with others.
    """

    def __init__(self, network: nn.Module, submit: Callable[[Job], Future[Gradient]]) -> None:
        self._submit = submit
        self._running: list[tuple[nn.Module, Future[Gradient]]] = []
        for layer in network.modules():
            if _is_plain(layer):
                layer.forward = MethodType(self._forward, layer)

    def _forward(self, layer: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and layer.weight.requires_grad:
            return _Aside.apply(x, layer.weight, layer, self._begin)
        return type(layer).forward(layer, x)

    def _begin(self, layer: nn.Module, job: Job, aside: bool) -> None:
        done: Future[Gradient] = Future()
        if aside:
            done = self._submit(job)
        else:
            done.set_result(job())
        self._running.append((layer, done))

    def __enter__(self) -> None:
        self._running.clear()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits for what is still computed and adds it to the parameters' `grad`; raises what that has raised."""
        if kind is not None:
            return
        for layer, done in self._running:
            weight, bias = done.result()
            _add(layer.weight, weight)
            if bias is not None:
                _add(layer.bias, bias)


def _is_plain(layer: nn.Module) -> bool:
    """Whether this is a layer that `_Aside` can stand for. No subclass: it computes its weights from others."""
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros"
    return type(layer) is nn.Linear and layer.weight.numel() >= LEAST


def _add(parameter: Any, gradient: Tensor) -> None:
    parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _like(parameter: Tensor, gradient: Tensor) -> Tensor:
    """`gradient` in the type and the memory layout of its parameter: a fused optimizer takes the latter for granted."""
    if gradient.dtype == parameter.dtype and gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


def _cast(x: Tensor, layer: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """The input, weight and bias of a layer as autocast would have them."""
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else layer.weight.dtype
    bias = layer.bias
    return x.to(kind), layer.weight.detach().to(kind), None if bias is None else bias.detach().to(kind)


def _gradients(layer: Any, out: Tensor, x: Tensor, weight: Tensor, which: tuple[bool, bool]) -> tuple[Any, Any, Any]:
    """Gradients of the input and, by the second of `which`, of the weight and the bias, from that of the output."""
    own = which[1] and layer.bias is not None
    if isinstance(layer, nn.Conv2d):
        shapes = [layer.out_channels], layer.stride, layer.padding, layer.dilation, False, [0, 0], layer.groups
        return torch.ops.aten.convolution_backward(out, x, weight, *shapes, [*which, own])
    of_x = out @ weight if which[0] else None
    rows = out.flatten(0, -2)
    of_weight = rows.t() @ x.flatten(0, -2) if which[1] else None
    return of_x, of_weight, rows.sum(0) if own else None


class _Aside(torch.autograd.Function):
    """A layer whose backward pass gives the gradient of the input alone, and begins a job for that of the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, _: Tensor, layer: Any, begin: Callable[[nn.Module, Job, bool], None]) -> Tensor:
        ctx.kind = x.dtype
        x, weight, bias = _cast(x, layer)
        ctx.save_for_backward(x, weight)
        ctx.layer, ctx.begin = layer, begin
        if isinstance(layer, nn.Conv2d):
            return torch.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out: Tensor) -> tuple[Tensor | None, None, None, None]:
        (x, weight), layer = ctx.saved_tensors, ctx.layer

        @torch.no_grad()
        def job() -> Gradient:
            _, of_weight, of_bias = _gradients(layer, out, x, weight, (False, True))
            return _like(layer.weight, of_weight), None if of_bias is None else _like(layer.bias, of_bias)

        onwards = ctx.needs_input_grad[0]
        # a convolution of the frames themselves comes last here: nothing is left to do beside it
        ctx.begin(layer, job, onwards or not isinstance(layer, nn.Conv2d))
        of_x = _gradients(layer, out, x, weight, (True, False))[0].to(ctx.kind) if onwards else None
        return of_x, None, None, None
