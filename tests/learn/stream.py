"""Windows cut out of streams as actors make them: episodes, their ends, and the dummies after those."""

from __future__ import annotations

import numpy as np

from distdqn.types import Batch, EnvSpec


def stream(
    spec: EnvSpec, rows: int, steps: int, *, seed: int = 0, memory: int = 0, contexts: int = 1, ends: float = 0.25
) -> tuple[Batch, np.ndarray]:
    """Windows of `steps` steps whose episodes end with probability `ends`, half of them truncated.

    Returns:
        The batch, with a bonus and random states, and which episode each of its frames is of,
        int64 `[rows, S-1+steps+1]`.
    """
    rng = np.random.default_rng(seed)
    before = spec.stack - 1
    count = before + steps + 1
    age, episode = np.zeros((rows, count), np.int32), np.zeros((rows, count), np.int64)
    last, terminated = np.zeros((rows, count), bool), np.zeros((rows, count), bool)
    for row in range(rows):
        age[row, 0] = rng.integers(0, 4)
        for k in range(count):
            dummy = k > 0 and last[row, k - 1]
            if dummy:
                age[row, k], episode[row, k] = -1, episode[row, k - 1]
            elif k > 0:
                age[row, k] = age[row, k - 1] + 1
                episode[row, k] = episode[row, k - 1] + (age[row, k] == 0)
            # no end right before the window, which would make its first step a dummy
            if not dummy and k != before - 1:
                last[row, k] = rng.random() < ends
                terminated[row, k] = last[row, k] and rng.random() < 0.5
    shape = (rows, count, *spec.frame_shape)
    at = slice(before, before + steps)
    reward = rng.normal(0, 2, (rows, steps)).astype(np.float32)
    state = rng.normal(0, 0.5, (rows, memory)).astype(np.float32)
    if contexts > 1:
        state[:, -1] = rng.integers(0, contexts, rows)
    batch = Batch(
        frames=rng.integers(0, 256, shape, np.uint8) if spec.pixels else rng.standard_normal(shape, np.float32),
        steps={
            "action": rng.integers(0, spec.num_actions, (rows, steps)),
            "reward": np.where(age[:, at] < 0, 0, reward).astype(np.float32),
            "terminated": terminated[:, at],
            "last": last[:, at],
            "age": age[:, at],
            "bonus": rng.random((rows, steps), np.float32),
        },
        memory=state,
        importance=rng.uniform(0.2, 3, rows).astype(np.float32),
        key=np.arange(rows),
        origin=np.zeros((rows, 6), np.int64),
        sizes=(rows,),
    )
    return batch, episode


def observation(spec: EnvSpec, batch: Batch, episode: np.ndarray, row: int, at: int) -> np.ndarray:
    """What is seen at a step: planes of another episode than the newest frame's are zero."""
    if not spec.pixels:
        return batch.frames[row, at]
    planes = batch.frames[row, at : at + spec.stack].copy()
    ours = episode[row, at : at + spec.stack]
    planes[ours != ours[-1]] = 0
    return planes
