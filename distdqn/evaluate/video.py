"""A recorded game as a GIF with its Q-values beside the screen."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from distdqn.types import EnvSpec, Recording

PANEL = 132
_TEXT, _BAR, _BEST, _BACK = (200, 204, 212), (76, 110, 160), (240, 170, 60), (18, 20, 26)


def write_gif(recording: Recording, spec: EnvSpec, path: Path, every: int = 1, max_frames: int = 0) -> Path:
    """Writes the game to `path`: the screen, and beside it a bar for each action's Q-value.

    Args:
        every: keeps one frame of this many. max_frames: 0 keeps the whole game, else its last frames.
    """
    chosen = np.arange(0, len(recording.frames), every)
    if max_frames:
        chosen = chosen[-max_frames:]
    # the scale must not jump with the odd outlier
    low, high = (float(x) for x in np.quantile(recording.q[chosen], [0.005, 0.995]))
    span = (low, max(high, low + 1e-3))
    score = np.cumsum(recording.reward) - recording.reward
    images = [_page(recording, spec, int(i), float(score[i]), span) for i in chosen]
    palette = _sheet(images[:: -(-len(images) // 16)]).convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    pages = [im.quantize(palette=palette, dither=Image.Dither.NONE) for im in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    # browsers slow down GIFs that are faster than 20 ms a frame
    duration = max(20, round(1000 * spec.frame_skip * every / 60 / 10) * 10)
    temporary = path.with_suffix(".part.gif")
    pages[0].save(temporary, save_all=True, append_images=pages[1:], duration=duration, loop=0, optimize=True)
    temporary.replace(path)
    return path


def _sheet(images: list[Image.Image]) -> Image.Image:
    """The images, all of one size, side by side: the colours of a game change in its course."""
    width, height = images[0].size
    sheet = Image.new("RGB", (width * len(images), height))
    for i, image in enumerate(images):
        sheet.paste(image, (width * i, 0))
    return sheet


def _page(recording: Recording, spec: EnvSpec, i: int, score: float, span: tuple[float, float]) -> Image.Image:
    screen = Image.fromarray(recording.frames[i])
    height = max(screen.height, 40 + 16 * spec.num_actions)
    page = Image.new("RGB", (screen.width + PANEL, height), _BACK)
    page.paste(screen, (0, 0))
    draw = ImageDraw.Draw(page)
    font = ImageFont.load_default(10)
    x = screen.width + 6
    draw.text((x, 4), f"score {score:g}", _TEXT, font)
    draw.text((x, 18), f"max Q {recording.q[i].max():+.2f}", _TEXT, font)
    names = spec.action_names or tuple(str(a) for a in range(spec.num_actions))
    best = int(recording.q[i].argmax())
    for a in range(spec.num_actions):
        y = 38 + 16 * a
        share = (float(recording.q[i, a]) - span[0]) / (span[1] - span[0])
        draw.text((x, y), names[a][:9].lower(), _BEST if a == best else _TEXT, font)
        width = round(58 * min(max(share, 0.02), 1.0))
        draw.rectangle((x + 62, y + 3, x + 62 + width, y + 10), fill=_BEST if a == best else _BAR)
    return page
