"""The pictures of a game, kept small."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


class Film(Sequence[np.ndarray]):
    """Pictures uint8 `[H, W, 3]`, all of one size, each compressed on its own: a game's are about a hundredth of
    their size then, which is what travels and waits to be drawn."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self._packed: list[bytes] = []

    def append(self, picture: np.ndarray) -> None:
        """Adds one more at the end."""
        self.shape = picture.shape
        self._packed.append(zlib.compress(picture.tobytes(), 1))

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, i: Any) -> Any:
        """Picture `i`, read-only; one at a time."""
        return np.frombuffer(zlib.decompress(self._packed[i]), np.uint8).reshape(self.shape)
