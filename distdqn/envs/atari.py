"""Atari 2600 games on ALE's C++ vector environment (Bellemare et al. 2013; Machado et al. 2018)."""

import difflib
import re
from collections.abc import Iterable
from typing import Any

import ale_py
import numpy as np
from ale_py import roms
from ale_py.vector_env import AtariVectorEnv

from distdqn.config import ConfigError, EnvConfig
from distdqn.envs.wrappers import check_actions, slot_seeds
from distdqn.types import EnvSpec, EnvStep

FRAME_SIZE = 84
"""Side of the frame where `env.frame_size` is null."""

_TWO_PLAYERS = frozenset({"combat", "joust", "maze_craze", "warlords"})
"""In the wheel, but the emulator ends the whole process when it is asked to load one."""

_NO_LIMIT = 2**30


def games() -> tuple[str, ...]:
    """The snake_case ids of all games that can be played, sorted."""
    return tuple(sorted(set(roms.get_all_rom_ids()) - _TWO_PLAYERS))


def check_game(config: EnvConfig) -> None:
    """Raises `ConfigError` with the nearest names unless `env.game` is one of `games()`."""
    known = games()
    if config.game in known:
        return
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", config.game).lower()
    names = ", ".join(difflib.get_close_matches(snake, known, n=3) or ["pong", "breakout", "space_invaders"])
    raise ConfigError(f"env.game={config.game}: must be the snake_case id of an Atari game, such as {names}")


def _load(config: EnvConfig, seed: int) -> Any:
    check_game(config)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", config.protocol.sticky)
    ale.setInt("random_seed", seed)
    ale.loadROM(str(roms.get_rom_path(config.game)))
    return ale


def _spec(config: EnvConfig, actions: Iterable[Any]) -> EnvSpec:
    names = tuple(ale_py.Action(a).name.lower() for a in actions)
    side = config.frame_size or FRAME_SIZE
    return EnvSpec(f"atari/{config.game}", (side, side), "uint8", config.stack, len(names), config.frame_skip, names)


def atari_spec(config: EnvConfig) -> EnvSpec:
    """The spec of a game, from one emulator without threads; `ConfigError` for an unknown game."""
    ale = _load(config, seed=0)
    return _spec(config, ale.getLegalActionSet() if config.protocol.full_action_set else ale.getMinimalActionSet())


class AtariEnv:
    """N emulators stepped by `threads` C++ threads that do not hold the interpreter's lock.

    A step repeats its action for `frame_skip` emulator frames. The frame is the greyscale maximum of the last
    two of them, resized by area to a square of `frame_size` (84 if that is null). Rewards are the raw score.

    An episode is a whole game. It begins with 0 to `noop_max` no-ops and no other action (FIRE is not pressed for the
    agent). `last` with `terminated` is the real game over; the emulator pools no screen after it, so that frame may
    still show the step before. `last` without it is the first step by which `max_frames` emulator frames have passed
    since the first observation. `terminated` without `last` is a lost life, where `life_loss_terminates`.

    Builds threads: make it in the process that uses it, it neither forks nor pickles.
    """

    def __init__(self, config: EnvConfig, num_slots: int, threads: int, seed: int) -> None:
        check_game(config)
        protocol, side = config.protocol, config.frame_size or FRAME_SIZE
        self.num_slots, self._protocol = num_slots, protocol
        self._seeds = slot_seeds(seed, num_slots)
        self._env: Any = AtariVectorEnv(
            config.game,
            num_slots,
            num_threads=min(threads, num_slots),
            # Truncation is done below: the emulator's own breaks off before it has pooled the final screen,
            # and hides a truncation that falls on a lost life.
            max_num_frames_per_episode=_NO_LIMIT,
            repeat_action_probability=protocol.sticky,
            full_action_space=protocol.full_action_set,
            img_height=side,
            img_width=side,
            stack_num=1,
            frameskip=config.frame_skip,
            noop_max=protocol.noop_max + 1,  # it draws from 0 to noop_max - 1
            episodic_life=False,
            life_loss_info=False,  # lives come in `info`, and `terminated` stays the game over alone
            reward_clipping=False,
            use_fire_reset=False,
        )
        self.spec = _spec(config, self._env.ale.get_action_set())

    def reset(self) -> np.ndarray:
        frame, info = self._env.reset(seed=self._seeds)
        self._last, self._truncated = np.zeros((2, self.num_slots), bool)
        self._lives, self._first_frame = info["lives"], info["episode_frame_number"]
        return np.asarray(frame[:, 0])

    def step(self, action: np.ndarray) -> EnvStep:
        action = check_actions(action, self.num_slots, self.spec.num_actions)
        dummy = self._last
        frame, reward, over, _, info = self._env.step(np.where(dummy, 0, action))
        if self._truncated.any():  # the emulator went on with these
            frame, info = self._env.reset(options={"reset_mask": self._truncated})

        lives, elapsed = info["lives"], info["episode_frame_number"] - self._first_frame
        over = over & ~dummy
        self._truncated = (elapsed >= self._protocol.max_frames) & ~over & ~dummy
        self._last = over | self._truncated
        # Some games show no lives for a few frames before the next one starts.
        lost = (lives < self._lives) & (lives > 0) & ~dummy & self._protocol.life_loss_terminates
        self._lives = lives
        self._first_frame = np.where(dummy, info["episode_frame_number"], self._first_frame)
        reward = np.where(dummy, 0, reward).astype(np.float32)
        return EnvStep(np.asarray(frame[:, 0]), reward, over | lost, self._last.copy())

    def close(self) -> None:
        self._env = None


class RenderedAtariEnv(AtariEnv):
    """`AtariEnv` of one slot with `render`. The vector environment keeps its screen to itself, so a second emulator
    with the same seed is given the same actions for its colours alone: frames and rewards are those of the `AtariEnv`
    with this seed."""

    def __init__(self, config: EnvConfig, num_slots: int = 1, threads: int = 1, seed: int = 0) -> None:
        super().__init__(config, num_slots, threads, seed)
        self._config = config
        self._twin: Any = None
        self._twin_actions = list(self._env.ale.get_action_set())

    def _start_twin(self) -> None:
        self._twin.reset_game()
        for _ in range(int(self._first_frame[0])):
            self._twin.act(self._twin_actions[0])

    def _step_twin(self, action: int) -> None:
        for _ in range(self.spec.frame_skip):
            self._twin.act(self._twin_actions[action])
            if self._twin.game_over():
                break

    def reset(self) -> np.ndarray:
        frame = super().reset()
        self._twin = _load(self._config, int(self._seeds[0]))
        self._start_twin()
        return frame

    def step(self, action: np.ndarray) -> EnvStep:
        dummy, truncated = self._last[0], self._truncated[0]
        step = super().step(action)
        if not dummy:
            self._step_twin(int(action[0]))
        else:
            if truncated:  # sticky actions: the emulator's random numbers went on too
                self._step_twin(0)
            self._start_twin()
        return step

    def render(self) -> np.ndarray:
        """The console's screen, uint8 `[210, 160, 3]` for most games."""
        return np.asarray(self._twin.getScreenRGB())
