"""The doors `distdqn evaluate` and `distdqn record`: games of a checkpoint of a run."""

from pathlib import Path

import numpy as np

from distdqn import checkpoint
from distdqn.config import ConfigError, RunConfig
from distdqn.config.stored import load_config
from distdqn.envs.registry import check_env
from distdqn.evaluate.evaluator import Evaluator
from distdqn.evaluate.scores import bootstrap_interval, human_normalised, interquartile_mean
from distdqn.evaluate.video import write_gif
from distdqn.types import Weights


def evaluate(folder: Path, name: str, seed: int, episodes: int) -> int:
    """Plays so many games with the checkpoint `name` of the run in `folder` and prints its scores. Gives the exit code.
    Raises `ConfigError`: there is no such run or checkpoint."""
    config, weights, name = _weights(folder, name)
    result = Evaluator(config.env, config.agent, config.evaluation, seed).evaluate(weights, episodes)
    returns = np.array(result.returns)
    print(f"{name}: {len(returns)} episodes in {result.seconds:.0f} s, epsilon {config.evaluation.epsilon}")
    print(f"  mean {returns.mean():.2f}  median {np.median(returns):.2f}  min {returns.min():g}  max {returns.max():g}")
    low, high = bootstrap_interval(returns)
    print(f"  interquartile mean {interquartile_mean(returns):.2f} (95% interval {low:.2f} to {high:.2f})")
    normalized = human_normalised(config.env.game, float(returns.mean())) if config.env.kind == "atari" else None
    if normalized is not None:
        print(f"  human-normalised {normalized:.3f}")
    return 0


def record(folder: Path, name: str, seed: int, out: Path | None, every: int, max_frames: int) -> int:
    """Films a game, every so many frames, 0 `max_frames` for all. Gives the exit code; raises as `evaluate`."""
    config, weights, name = _weights(folder, name)
    spec = check_env(config.env)
    recording = Evaluator(config.env, config.agent, config.evaluation, seed).record(weights)
    out = out or folder / "videos" / f"{name}-recorded.gif"
    write_gif(recording, spec, out, every, max_frames)
    print(f"{out}: {len(recording.frames)} steps, return {recording.game_return:g}, {out.stat().st_size / 1e6:.2f} MB")
    return 0


def _weights(folder: Path, name: str) -> tuple[RunConfig, Weights, str]:
    """The run's config, the weights of the checkpoint `name`, best or newest, and what that is called."""
    config, checkpoints = load_config(folder), folder / "checkpoints"
    if name == "best" and (found := checkpoint.best(checkpoints)):
        name = found[0]
    if name in ("best", "newest"):
        newest = checkpoint.newest_valid(checkpoints)
        if newest is None:
            raise ConfigError(f"{folder}: no checkpoint there can be read")
        name, state = newest[0].name, newest[1]
    elif name in (names := checkpoint.names(checkpoints)):
        try:
            state = checkpoint.load(checkpoints / name)
        except checkpoint.CheckpointError as error:
            raise ConfigError(str(error)) from None
    else:
        raise ConfigError(f"--checkpoint={name}: must be best, newest or one of {', '.join(names)}")
    learner = state["learner"]
    return config, Weights(int(learner["updates"]), learner["online"]), name
