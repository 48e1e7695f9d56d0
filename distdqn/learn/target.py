"""When and how the target network follows the online network."""

import torch
from torch import Tensor

from distdqn.config import ResetConfig, TargetConfig
from distdqn.nets.qnetwork import QNetwork


class TargetUpdate:
    """Follows the online network as `config` says, and resets both where `reset` asks for it. `network`: becomes the
    target network, and starts as `online` is."""

    def __init__(self, config: TargetConfig, reset: ResetConfig, online: QNetwork, network: QNetwork) -> None:
        self.config, self.reset = config, reset
        self.online, self.network = online, network.requires_grad_(False).eval()
        self.copy()

    def copy(self) -> None:
        """Takes over the online network's weights."""
        self.network.load_state_dict(self.online.state_dict())

    def reset_due(self, updates: int) -> bool:
        """Whether the networks are reset after so many updates."""
        return self.reset.period is not None and updates % self.reset.period == 0

    def jumps(self, updates: int) -> bool:
        """Whether the target network changes after so many updates."""
        return self.config.kind == "polyak" or updates % self.config.period == 0 or self.reset_due(updates)

    def copy_due(self, updates: int) -> bool:
        """Whether the target network becomes the online one after so many updates."""
        return self.config.kind == "period" and updates % self.config.period == 0

    @torch.no_grad()
    def copy_where(self, ok: Tensor) -> None:
        """`copy` where the scalar `ok` is true."""
        for own, other in zip(self.network.state_dict().values(), self.online.state_dict().values(), strict=True):
            torch.where(ok, other, own, out=own)

    @property
    def mixed(self) -> list[Tensor]:
        """What `mix` changes."""
        polyak = self.config.kind == "polyak"
        return [*self.network.parameters(), *self.network.buffers()] if polyak else []

    @torch.no_grad()
    def mix(self) -> None:
        """Follows the online network by a little, after each update, where it does."""
        if self.config.kind == "polyak":
            torch._foreach_lerp_([*self.network.parameters()], [*self.online.parameters()], self.config.tau)
            for buffer, other in zip(self.network.buffers(), self.online.buffers(), strict=True):
                buffer.copy_(other)

    def shrink(self, fresh: QNetwork) -> None:
        """Resets the online network towards a `fresh` one, and the target to it."""
        shrink_and_perturb(self.online, fresh, self.reset.keep)
        self.copy()


@torch.no_grad()
def shrink_and_perturb(network: QNetwork, fresh: QNetwork, keep: float) -> None:
    """Moves the torso towards newly initialized weights, keep theta + (1 - keep) phi, and starts everything behind it
    anew (D'Oro et al. 2023; Schwarzer et al. 2023, section 3; Ash and Adams 2020). `fresh`: newly initialized."""
    new = fresh.state_dict()
    for name, value in network.state_dict().items():
        if name.startswith("torso.") and value.is_floating_point():
            value.lerp_(new[name], 1 - keep)
        elif name != "mean_frame":
            value.copy_(new[name])
