"""Recordings as GIFs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from distdqn.evaluate.video import PANEL, write_gif
from distdqn.types import EnvSpec, Recording

SPEC = EnvSpec("game", (84, 84), "uint8", 4, 3, frame_skip=4, action_names=("noop", "left", "right"))


def recording(steps: int, height: int = 60, width: int = 40) -> Recording:
    """A white square of four pixels on black moves to the right, a step a frame."""
    frames = np.zeros((steps, height, width, 3), np.uint8)
    for k in range(steps):
        frames[k, 10:14, k : k + 4] = 255
    rng = np.random.default_rng(0)
    return Recording(
        frames,
        rng.standard_normal((steps, 3), np.float32),
        rng.integers(0, 3, steps),
        np.ones(steps, np.float32),
        float(steps),
    )


def read(path: Path) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(path) as image:
        pages = [(np.array(p.convert("RGB")), p.info["duration"]) for p in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    return [p for p, _ in pages], [d for _, d in pages]


def test_every_frame_is_there_beside_its_values(tmp_path: Path) -> None:
    made = recording(12)
    path = write_gif(made, SPEC, tmp_path / "videos" / "game.gif")
    assert path == tmp_path / "videos" / "game.gif"
    assert [p.name for p in path.parent.iterdir()] == ["game.gif"], "no half-written file stays behind"
    pages, durations = read(path)
    assert len(pages) == 12
    assert pages[0].shape == (40 + 16 * 3, 40 + PANEL, 3)
    for page, frame in zip(pages, made.frames, strict=True):
        np.testing.assert_array_equal(page[:60, :40] > 128, frame > 128)
    assert len({page[:, 40:].tobytes() for page in pages}) == 12, "score and values change with each"
    assert set(durations) == {70}, "four frames at sixty a second, in hundredths"


@pytest.mark.parametrize(
    ("every", "max_frames", "chosen"),
    [(1, 0, range(10)), (3, 0, (0, 3, 6, 9)), (1, 4, (6, 7, 8, 9)), (2, 3, (4, 6, 8)), (100, 0, (0,))],
)
def test_which_frames_are_kept(tmp_path: Path, every: int, max_frames: int, chosen: tuple[int, ...]) -> None:
    made = recording(10)
    pages, _ = read(write_gif(made, SPEC, tmp_path / "a.gif", every=every, max_frames=max_frames))
    assert len(pages) == len(chosen)
    for page, k in zip(pages, chosen, strict=True):
        np.testing.assert_array_equal(page[:60, :40] > 128, made.frames[k] > 128)


def test_a_game_keeps_its_length_in_time_where_frames_are_alike(tmp_path: Path) -> None:
    made = recording(6)
    still = Recording(
        np.repeat(made.frames[:1], 6, 0), np.repeat(made.q[:1], 6, 0), made.action, np.zeros(6, np.float32), 0.0
    )
    _, durations = read(write_gif(still, SPEC, tmp_path / "a.gif"))
    assert sum(durations) == 6 * 70


def test_colours_that_only_some_frames_have(tmp_path: Path) -> None:
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30], [30, 200, 200]], np.uint8)
    frames = np.zeros((5, 60, 40, 3), np.uint8)
    frames[:] = colours[:, None, None]
    rng = np.random.default_rng(0)
    made = Recording(
        frames, rng.standard_normal((5, 3), np.float32), np.zeros(5, np.int64), np.zeros(5, np.float32), 0.0
    )
    pages, _ = read(write_gif(made, SPEC, tmp_path / "a.gif"))
    for page, colour in zip(pages, colours, strict=True):
        assert np.abs(page[30, 20].astype(int) - colour).max() < 40


def test_values_without_names_and_without_spread(tmp_path: Path) -> None:
    made = recording(3)
    flat = Recording(made.frames, np.zeros((3, 18), np.float32), made.action, made.reward, 0.0)
    spec = EnvSpec("game", (84, 84), "uint8", 4, 18)
    pages, durations = read(write_gif(flat, spec, tmp_path / "a.gif"))
    assert pages[0].shape == (40 + 16 * 18, 40 + PANEL, 3)
    assert set(durations) == {20}, "browsers slow down anything faster"
