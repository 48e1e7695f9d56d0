"""What keeps weights small or fresh: penalties, and resets (D'Oro et al. 2023; Schwarzer et al. 2023)."""

import torch
from torch import Tensor, nn

from distdqn.config import OptimizerConfig
from distdqn.learn.auxiliary import Auxiliary
from distdqn.learn.minibatch import Minibatch
from distdqn.nets.qnetwork import QNetwork


def weights_of(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that penalties and decay act on: weights of linear, convolutional and recurrent layers, not
    biases and not those of normalization, which have one dimension."""
    return [p for p in module.parameters() if p.requires_grad and p.dim() > 1]


class Penalty(Auxiliary):
    """l1 sum |w| + l2 sum w^2 of the network's weights."""

    def __init__(self, config: OptimizerConfig) -> None:
        super().__init__()
        self.l1, self.l2 = config.l1, config.l2

    def loss(self, network: nn.Module, batch: Minibatch | None) -> tuple[Tensor | None, dict[str, Tensor]]:
        terms = [self.l1 * w.abs().sum() + self.l2 * w.square().sum() for w in weights_of(network)]
        penalty = torch.stack(terms).sum()
        return penalty, {"penalty": penalty.detach()}


@torch.no_grad()
def shrink_and_perturb(network: QNetwork, fresh: QNetwork, keep: float) -> None:
    """Moves the torso towards newly initialized weights, keep theta + (1 - keep) phi, and starts everything behind
    it anew (Schwarzer et al. 2023, section 3; Ash and Adams 2020).

    Args:
        fresh: the same network, newly initialized.
    """
    new = fresh.state_dict()
    for name, value in network.state_dict().items():
        if name == "mean_frame":
            continue
        if name.startswith("torso.") and value.is_floating_point():
            value.lerp_(new[name], 1 - keep)
        else:
            value.copy_(new[name])
