"""From a sequence of features to a state that remembers."""

import torch
from torch import Tensor, nn

from distdqn.config import MemoryConfig
from distdqn.nets.transformer import Block


class Memory(nn.Module):
    """What every memory answers.

    The state of a slot is one float32 vector `[M]`, so that it can be stored with the experience; all zeros is
    the state at an episode's start. Gradients flow through time, and through the state where it has any.
    Not to be run under autocast, which would round the state at every step.

    Attributes:
        features: F, the width of what it gives.
        size: M.
    """

    features: int
    size: int

    def unroll(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """T steps: `forward` for one after the other, from a zero state where an episode starts. Gives the outputs
        float32 `[B, T, F]`, and the state after the last step `[B, M]`.

        Args:
            features: float32 `[B, T, D]`.
            state: float32 `[B, M]`, before the first step.
            start: bool `[B, T]`, whether an episode begins with this step.
        """
        raise NotImplementedError


class NoMemory(Memory):
    """Remembers nothing: features pass through, the state is empty (`[B, 0]`, or None)."""

    def __init__(self, config: MemoryConfig, features: int) -> None:
        super().__init__()
        self.features, self.size = features, 0

    def forward(self, features: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One step: `[B, D]` as it is."""
        return features, state

    def unroll(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        return features, state


class Recurrent(Memory):
    """What recurrent cells share: the inputs of all steps are projected at once, then the cell runs over them.

    Attributes:
        gates: how many vectors of `config.size` numbers the cell computes from the input and from h.
        parts: how many of them make up the state.
    """

    gates, parts = 1, 1
    recurrent_bias = False

    def __init__(self, config: MemoryConfig, features: int) -> None:
        super().__init__()
        units = config.size
        self.features, self.size = units, self.parts * units
        self.input = nn.Linear(features, self.gates * units)
        self.recurrent = nn.Linear(units, self.gates * units, bias=self.recurrent_bias)

    def cell(self, x: Tensor, state: Tensor) -> Tensor:
        """The next state `[B, M]`, which begins with h, from the projected input `[B, gates * units]`."""
        raise NotImplementedError

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: `[B, D]` and the state `[B, M]` to h `[B, F]` and the next state."""
        state = self.cell(self.input(features), state)
        return state[:, : self.features], state

    # a compiler would write the loop out, which takes it minutes for a hundred steps
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def unroll(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        out = []
        # unbind: the gradient of indexing would fill a tensor of all steps at every step
        for x, begins in zip(self.input(features).unbind(1), start.unsqueeze(-1).unbind(1), strict=True):
            state = self.cell(x, state.masked_fill(begins, 0))
            out.append(state[:, : self.features])
        return torch.stack(out, 1), state


class RNN(Recurrent):
    """h' = tanh(W x + U h + b) (Elman 1990)."""

    def cell(self, x: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(x + self.recurrent(state))


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), the reset gate after the product as in PyTorch and cuDNN.

    r, z = sigmoid(W x + U h + b), n = tanh(W_n x + b_n + r (U_n h + c_n)), h' = (1 - z) n + z h.
    """

    gates = 3
    recurrent_bias = True

    def cell(self, x: Tensor, state: Tensor) -> Tensor:
        x_r, x_z, x_n = x.chunk(3, -1)
        h_r, h_z, h_n = self.recurrent(state).chunk(3, -1)
        n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
        return torch.lerp(n, state, torch.sigmoid(x_z + h_z))


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000); the state is h and c.

    i, f, o = sigmoid(W x + U h + b), g = tanh(W_g x + U_g h + b_g), c' = f c + i g, h' = o tanh(c').
    """

    gates, parts = 4, 2

    def cell(self, x: Tensor, state: Tensor) -> Tensor:
        h, c = state.chunk(2, -1)
        i, f, g, o = (x + self.recurrent(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c], -1)


class Transformer(Memory):
    """A small causal transformer over the latest steps of the episode (Parisotto et al. 2020).

    The state of a slot is what each of the blocks saw in the last `steps - 1` steps, oldest first, and how many
    of those are real: M = blocks * (steps - 1) * width + 1.
    """

    def __init__(self, config: MemoryConfig, features: int) -> None:
        super().__init__()
        width, steps, layers, heads = config.size, config.steps, config.layers, config.heads
        self.features, self.size = width, layers * (steps - 1) * width + 1
        self.past = steps - 1
        self.input = nn.Linear(features, width)
        self.blocks = nn.ModuleList(Block(width, heads, steps) for _ in range(layers))

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step: `[B, D]` and the state `[B, M]` to `[B, F]` and the next state."""
        start = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        out, state = self.unroll(features.unsqueeze(1), state, start)
        return out.squeeze(1), state

    def unroll(self, features: Tensor, state: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        b, t = start.shape
        distance, allowed, live = self._mask(state[:, -1], start)
        memories = state[:, :-1].view(b, len(self.blocks), self.past, self.features).unbind(1)
        x, after = self.input(features), []
        for block, memory in zip(self.blocks, memories, strict=True):
            context = torch.cat([memory, x], 1)
            after.append(context[:, t:].masked_fill(~live.unsqueeze(-1), 0).flatten(1))
            x = block(context, distance, allowed)
        return x, torch.cat([*after, live.sum(1, keepdim=True).to(x.dtype)], -1)

    def _mask(self, count: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Who sees whom, among the keys: the `past` steps in the state, `count` float32 `[B]` of them real, and the T
        of the window. Gives the distance of keys from queries, clamped to the attended, int64 `[T, past + T]`; which
        keys each query attends to, bool `[B, T, past + T]`; and which of the last `past` keys the step after the window
        may still attend to, bool `[B, past]`."""
        t, past = start.shape[1], self.past
        key = torch.arange(past + t, device=start.device)
        distance = key[past:].unsqueeze(1) - key
        episode = start.cumsum(1)
        episodes = torch.cat([episode.new_zeros(len(episode), past), episode], 1)
        real = key >= past - count.unsqueeze(1)
        same = episode.unsqueeze(2) == episodes.unsqueeze(1)
        allowed = same & real.unsqueeze(1) & (distance >= 0) & (distance <= past)
        return distance.clamp(0, past), allowed, (real & same[:, -1])[:, t:]


MEMORIES = {"none": NoMemory, "rnn": RNN, "gru": GRU, "lstm": LSTM, "transformer": Transformer}
