"""What every environment is (`VectorEnv`, `RenderedEnv`), and the helpers that they share."""

from colorsys import hsv_to_rgb
from typing import Protocol

import numpy as np
from PIL import Image

from distdqn.types import EnvSpec, EnvStep


class VectorEnv(Protocol):
    """N slots that step together and start their next episode by themselves: the step after a `last` is a dummy, whose
    action is ignored and which gives the next first frame. `act.history` shows the loop that calls it.

    Frames are never stacked here. Arrays that were handed out are the caller's: no later step writes to them.
    The same configuration, number of slots and seed give the same stream for the same actions.
    """

    spec: EnvSpec
    num_slots: int

    def reset(self) -> np.ndarray:
        """Starts all slots, once, before the first step, and gives their first frames, as `EnvStep.frame`."""

    def step(self, action: np.ndarray) -> EnvStep:
        """One step of all slots with `action` int `[N]` in [0, A); anything else raises `ValueError`."""

    def close(self) -> None:
        """Frees emulators and threads; a second call does nothing."""


class RenderedEnv(VectorEnv, Protocol):
    """A `VectorEnv` that can be looked at, which films do with one slot."""

    def render(self) -> np.ndarray:
        """The picture of the first slot after the last `reset` or `step`, uint8 `[H, W, 3]`."""


def check_actions(action: np.ndarray, num_slots: int, num_actions: int) -> np.ndarray:
    """`action` as int64 `[num_slots]`; `ValueError` unless it is integers of that shape in [0, num_actions). Checked
    before anything reaches an emulator: ALE's worker threads never answer an action out of range."""
    action = np.asarray(action)
    if action.shape != (num_slots,) or action.dtype.kind not in "iu":
        raise ValueError(f"actions must be int [{num_slots}], not {action.dtype} {list(action.shape)}")
    if num_slots and (action.min() < 0 or action.max() >= num_actions):
        raise ValueError(f"actions must be from 0 to {num_actions - 1}, got {action.tolist()}")
    return action.astype(np.int64, copy=False)


def slot_seeds(seed: int, num_slots: int) -> np.ndarray:
    """One seed in [0, 2^31) for each slot, int64 `[num_slots]`: unlike seed + slot, near seeds share none."""
    return np.random.SeedSequence(seed).generate_state(num_slots).astype(np.int64) & 0x7FFFFFFF


def to_grey(image: np.ndarray) -> np.ndarray:
    """Luma of uint8 `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]` as uint8 `[H, W]` (ITU-R BT.601)."""
    if image.ndim == 2:
        return image
    if image.shape[2] == 1:
        return image[:, :, 0]
    return np.asarray(Image.fromarray(np.ascontiguousarray(image[:, :, :3])).convert("L"))


def _area_means(image: np.ndarray, rows: int) -> np.ndarray:
    """float64 `[H, W]` to `[rows, W]`: differences of the running sum, read at the edges of the new rows."""
    total = np.vstack([np.zeros_like(image[:1]), np.cumsum(image, axis=0)])
    edge = np.linspace(0, len(image), rows + 1)
    row = np.minimum(edge.astype(np.int64), len(image) - 1)
    at_edge = total[row] + (edge - row)[:, None] * image[row]
    return np.asarray(np.diff(at_edge, axis=0) * (rows / len(image)))


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, C]` to `height` and `width`: each new pixel is the mean of the area that it covers. As
    ALE's (OpenCV's INTER_AREA) up to rounding. Pillow's box filter is not: it weighs whole pixels. Sums and no matrix
    products, which would start threads for so little."""
    if image.shape[:2] == (height, width):
        return image
    if image.ndim == 3:
        return np.stack([resize(channel, height, width) for channel in np.moveaxis(image, 2, 0)], axis=2)
    mean = _area_means(_area_means(image.astype(np.float64), height).T, width).T
    return np.ascontiguousarray((mean + 0.5).astype(np.uint8))


def picture(frame: np.ndarray) -> np.ndarray:
    """An image frame as one to look at, uint8 `[H, W]` or `[H, W, 3]`: flags are black or white, and of channels that
    are no colours each gets a hue, of which the brightest shows."""
    if frame.dtype == np.uint8 and frame.shape[2:] in ((3,), (4,)):
        return frame[:, :, :3]
    frame = frame if frame.dtype == np.uint8 else frame.astype(np.uint8) * np.uint8(255)
    if frame.ndim == 2:
        return frame
    hues = np.array([hsv_to_rgb(i / frame.shape[2], 0.7, 1) for i in range(frame.shape[2])])
    return np.asarray(hues[frame.argmax(2)] * frame.max(2, keepdims=True)).astype(np.uint8)


def enlarge(image: np.ndarray, side: int = 200) -> np.ndarray:
    """uint8 `[H, W]` or `[H, W, 3]` as `[kH, kW, 3]` with the largest k that fits into `side`, or 1."""
    rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    k = max(1, side // max(rgb.shape[:2]))
    return np.ascontiguousarray(rgb.repeat(k, axis=0).repeat(k, axis=1))
