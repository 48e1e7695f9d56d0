"""A block of a gated transformer (Parisotto et al. 2020, GTrXL)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Gate(nn.Module):
    """GRU-type gating in place of a residual connection (Parisotto et al. 2020, section 3.2).

    r = sigmoid(W_r y + U_r x), z = sigmoid(W_z y + U_z x - b), h = tanh(W_h y + U_h (r x)), g = (1 - z) x + z h.
    With b = 2 at the start z is about 0.12, so that a new block nearly lets x through.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w = nn.Linear(width, 3 * width, bias=False)
        self.u = nn.Linear(width, 2 * width, bias=False)
        self.u_h = nn.Linear(width, width, bias=False)
        self.b = nn.Parameter(torch.full((width,), 2.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """g of the stream `x` and a sublayer's output `y`, all `[..., W]`."""
        w_r, w_z, w_h = self.w(y).chunk(3, -1)
        u_r, u_z = self.u(x).chunk(2, -1)
        z = torch.sigmoid(w_z + u_z - self.b)
        h = torch.tanh(w_h + self.u_h(torch.sigmoid(w_r + u_r) * x))
        return torch.lerp(x, h, z)


class Block(nn.Module):
    """Attention and a position-wise network, each with its layer norm in front (identity map reordering), a ReLU
    and a gate. Where a step is shows in one learned bias of the attention for each head and distance."""

    def __init__(self, width: int, heads: int, steps: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.distance = nn.Parameter(torch.zeros(steps, heads))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.gates = nn.ModuleList(Gate(width) for _ in range(2))
        # four times as wide inside, as in Vaswani et al. 2017, section 3.3
        self.position_wise = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))

    def forward(self, context: Tensor, distance: Tensor, allowed: Tensor) -> Tensor:
        """What the block makes of the last T of K steps. Gives `[B, T, W]`.

        Args:
            context: `[B, K, W]`, inputs of the block; the queries are the last T.
            distance: int64 `[T, K]`, steps from each query back to each key, clamped to what there is a bias for.
            allowed: bool `[B, T, K]`, which keys each query may attend to; at least one each.
        """
        x, normed = context[:, -len(distance) :], self.norms[0](context)
        bias = F.embedding(distance, self.distance).permute(2, 0, 1)
        mask = torch.where(allowed.unsqueeze(1), bias, float("-inf"))
        key, value = self.key_value(normed).chunk(2, -1)
        query, key, value = map(self._split, (self.query(normed[:, -len(distance) :]), key, value))
        y = self.attended(F.scaled_dot_product_attention(query, key, value, mask).transpose(1, 2).flatten(2))
        x = self.gates[0](x, y.relu())
        return self.gates[1](x, self.position_wise(self.norms[1](x)).relu())

    def _split(self, x: Tensor) -> Tensor:
        """`[B, K, W]` to `[B, heads, K, W / heads]`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
