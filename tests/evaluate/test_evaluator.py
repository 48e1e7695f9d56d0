"""Whole games with known policies: how many, which returns, what is recorded."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from distdqn.config import AgentConfig, EnvConfig, EvaluationConfig
from distdqn.envs import gridworld
from distdqn.envs.registry import check_env
from distdqn.evaluate import evaluator as module
from distdqn.evaluate.evaluator import Evaluator
from distdqn.nets.qnetwork import QNetwork
from distdqn.types import EnvSpec, EnvStep, Evaluation, Weights
from tests.configs import agent_config, network_config
from tests.envs import theory

MLP = agent_config(network=network_config(torso="mlp", hidden=(4,)))
TABLE = agent_config(network=network_config(torso="tabular", hidden=()))
GRID = EnvConfig(kind="gridworld", size=4, slip=0.0)
SPEC = EnvSpec("games", (2, 1), "uint8", 3, 2, frame_skip=4)


@dataclass
class GamesEnv:
    """Slot s plays games of 3 s + 1, 3 s + 2, ... steps. Game g's steps give 10 s + g, a life is lost on each."""

    num_slots: int
    spec: EnvSpec = SPEC

    def __post_init__(self) -> None:
        self.closed = False
        self.game = np.zeros(self.num_slots, np.int64)
        self.step_of_game = np.zeros(self.num_slots, np.int64)
        self.steps = 0

    def _frame(self) -> np.ndarray:
        label = np.stack([self.game + 1, self.step_of_game + 1], 1)
        return label.astype(np.uint8)[:, :, None]

    def reset(self) -> np.ndarray:
        return self._frame()

    def step(self, action: np.ndarray) -> EnvStep:
        self.steps += 1
        slot = np.arange(self.num_slots)
        length = 3 * slot + self.game + 1
        dummy = self.step_of_game == length
        self.step_of_game = np.where(dummy, 0, self.step_of_game + 1)
        self.game = self.game + dummy
        last = ~dummy & (self.step_of_game == length)
        reward = np.where(dummy, 0, 10 * slot + self.game).astype(np.float32)
        return EnvStep(self._frame(), reward, ~dummy, last)

    def close(self) -> None:
        self.closed = True


class Made:
    """Stands in for `make_env` and keeps what it made."""

    def __init__(self) -> None:
        self.envs: list[GamesEnv] = []
        self.seeds: list[int] = []

    def __call__(self, config: EnvConfig, slots: int, threads: int, seed: int) -> GamesEnv:
        self.envs.append(GamesEnv(slots))
        self.seeds.append(seed)
        return self.envs[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr(module, "make_env", made)
    return made


def weights(agent: AgentConfig = MLP, spec: EnvSpec = SPEC) -> Weights:
    return Weights(12, QNetwork(agent.network, spec).arrays())


def table(values: np.ndarray, spec: EnvSpec) -> Weights:
    """A tabular network with Q(s, a) = values[s, a]."""
    return Weights(3, {n: values.T.astype(np.float32) for n in QNetwork(TABLE.network, spec).arrays()})


@pytest.mark.parametrize(
    ("envs", "episodes", "quota"),
    [(3, 7, [3, 2, 2]), (3, 3, [1, 1, 1]), (5, 2, [1, 1]), (1, 4, [4]), (4, 9, [3, 2, 2, 2])],
)
def test_each_slot_plays_its_share(made: Made, envs: int, episodes: int, quota: list[int]) -> None:
    result = Evaluator(EnvConfig(), MLP, EvaluationConfig(envs=envs), seed=0).evaluate(weights(), episodes)
    (env,) = made.envs
    assert env.num_slots == len(quota)
    assert env.closed
    games = [(slot, game) for slot, count in enumerate(quota) for game in range(count)]
    assert len(games) == len(result.returns) == episodes
    # lost lives end nothing, a dummy has no length, and later games of a fast slot do not count
    assert result.returns == tuple(float((3 * slot + game + 1) * (10 * slot + game)) for slot, game in games)
    assert result.lengths == tuple(4 * (3 * slot + game + 1) for slot, game in games)
    assert result.version == 12


def test_games_without_an_end_are_cut() -> None:
    env = EnvConfig(kind="gym", id="tests.runtime.faulty:Endless-v0", frame_skip=1)
    agent = agent_config(network=network_config(torso="mlp", hidden=()))
    evaluator = Evaluator(env, agent, EvaluationConfig(envs=2, max_frames=30), seed=0)
    result = evaluator.evaluate(Weights(1, QNetwork(agent.network, check_env(env)).arrays()), 5)
    assert result.returns == (30.0, 30.0) and result.lengths == (30, 30)


def test_an_evaluation_can_be_played_in_slices(made: Made) -> None:
    config = EvaluationConfig(envs=3)
    whole = Evaluator(EnvConfig(), MLP, config, seed=0).evaluate(weights(), 7)
    sliced, slices = Evaluator(EnvConfig(), MLP, config, seed=0), 1
    sliced.begin(weights(), 7)
    while (result := sliced.proceed(0)) is None:
        slices += 1
    assert slices > 3 and replace(result, seconds=0) == replace(whole, seconds=0)
    with pytest.raises(ValueError, match="no evaluation"):
        sliced.proceed(0)


def test_what_the_policy_is_shown(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[np.ndarray, np.ndarray]] = []

    class Watched(module.Policy):
        def q_values(self, stacks: np.ndarray, age: np.ndarray) -> np.ndarray:
            shown.append((stacks[:, :, 1, 0].T.copy(), age.copy()))
            return super().q_values(stacks, age)

    monkeypatch.setattr(module, "Policy", Watched)
    Evaluator(EnvConfig(), MLP, EvaluationConfig(envs=1), seed=0).evaluate(weights(), 2)
    # a game of one step and one of two; each ends in a dummy, but for the last, where the evaluation stops
    assert [age.tolist() for _, age in shown] == [[0], [1], [0], [1]]
    assert [stack[0].tolist() for stack, _ in shown] == [[0, 0, 1], [0, 1, 2], [1, 2, 1], [2, 1, 2]]


def grid_spec() -> EnvSpec:
    return gridworld.GridworldEnv(GRID, 1, 1, 0).spec


def test_the_best_policy_of_a_gridworld_has_the_best_returns() -> None:
    best = table(theory.gridworld_optimal_q(GRID, 0.99), grid_spec())
    evaluator = Evaluator(GRID, TABLE, EvaluationConfig(envs=4, epsilon=0.0), seed=1)
    result = evaluator.evaluate(best, 22)
    assert len(result.returns) == len(result.lengths) == 22
    for value, length in zip(result.returns, result.lengths, strict=True):
        assert value == pytest.approx(1 - 0.01 * (length - 1), abs=1e-5)
        assert 1 <= length <= 3 + 3
    assert len(set(result.lengths)) > 2
    # negative control: walking up into a wall for a hundred steps
    up = table(np.eye(4)[[0] * 16], grid_spec())
    assert min(evaluator.evaluate(up, 8).returns) == pytest.approx(-1.0, abs=1e-4)


def played(seed: int, calls: int) -> list[Evaluation]:
    evaluator = Evaluator(GRID, TABLE, EvaluationConfig(envs=3, epsilon=0.2), seed)
    best = table(theory.gridworld_optimal_q(GRID, 0.99), grid_spec())
    return [replace(evaluator.evaluate(best, 12), seconds=0) for _ in range(calls)]


def test_every_call_plays_new_games_and_a_seed_repeats_them() -> None:
    first, second = played(1, 2)
    assert first != second
    assert played(1, 2) == [first, second]
    assert played(2, 1) != [first]


def test_epsilon_explores() -> None:
    best = table(theory.gridworld_optimal_q(GRID, 0.99), grid_spec())

    def mean(epsilon: float) -> float:
        config = EvaluationConfig(envs=8, epsilon=epsilon)
        return float(np.mean(Evaluator(GRID, TABLE, config, seed=1).evaluate(best, 40).returns))

    assert mean(1.0) < mean(0.0) - 0.5


def state_of(picture: np.ndarray) -> int:
    """Where the white cell of a drawn grid is."""
    k = picture.shape[0] // 4
    cells = picture[k // 2 :: k, k // 2 :: k].reshape(16, 3)
    (state,) = np.nonzero((cells == 255).all(1))[0]
    return int(state)


@pytest.mark.parametrize("seed", range(4))
def test_a_recording_is_aligned(seed: int) -> None:
    q = theory.gridworld_optimal_q(GRID, 0.99)
    following, reward = gridworld.transitions(GRID)
    evaluator = Evaluator(GRID, TABLE, EvaluationConfig(epsilon=0.0), seed)
    recording = evaluator.record(table(q, grid_spec()))
    steps = len(recording.action)
    states = [state_of(frame) for frame in recording.frames]
    assert len(states) == len(recording.q) == len(recording.reward) == steps
    np.testing.assert_allclose(recording.q, q[states], rtol=1e-6)
    np.testing.assert_array_equal(recording.action, recording.q.argmax(1))
    arrivals = following[states, recording.action]
    assert arrivals[:-1].tolist() == states[1:]
    assert arrivals[-1] == gridworld.goal(GRID)
    np.testing.assert_allclose(recording.reward, reward[arrivals], rtol=1e-6)
    assert recording.game_return == pytest.approx(1 - 0.01 * (steps - 1), abs=1e-5)
    types = [a.dtype.name for a in (recording.frames[0], recording.q, recording.action, recording.reward)]
    assert types == ["uint8", "float32", "int64", "float32"]


def test_what_travels_of_a_recorded_game_is_small() -> None:
    config = EnvConfig(kind="atari", game="pong", frame_size=42, stack=2)
    spec = check_env(config)
    network = network_config(torso="small", hidden=(8,))
    evaluator = Evaluator(config, agent_config(network=network), EvaluationConfig(), 0)
    recording = evaluator.record(Weights(0, QNetwork(network, spec).arrays()), max_steps=60)
    screens = np.stack(recording.frames)
    assert screens.shape == (60, 210, 160, 3) and screens.dtype == np.uint8
    assert (screens[1:] != screens[:-1]).any(), "a game that stands still"
    assert len(pickle.dumps(recording)) < screens.nbytes / 30


def test_a_long_game_is_cut() -> None:
    up = table(np.eye(4)[[0] * 16], grid_spec())
    evaluator = Evaluator(GRID, TABLE, EvaluationConfig(epsilon=0.0), seed=3)
    recordings = [evaluator.record(up, max_steps=5) for _ in range(4)]
    longest = max(recordings, key=lambda r: len(r.action))
    assert len(longest.frames) == len(longest.q) == len(longest.reward) == len(longest.action) == 5
    assert longest.game_return == pytest.approx(5 * -0.01)


def test_recordings_are_of_the_policy_that_is_evaluated() -> None:
    """The same seed and call number play the same game, evaluated or recorded, without exploration."""
    best: dict[str, Any] = {"weights": table(theory.gridworld_optimal_q(GRID, 0.99), grid_spec())}
    config = EvaluationConfig(envs=1, epsilon=0.0)
    evaluated = Evaluator(GRID, TABLE, config, seed=8).evaluate(**best, episodes=1)
    recorded = Evaluator(GRID, TABLE, config, seed=8).record(**best)
    assert evaluated.returns[0] == pytest.approx(recorded.game_return, abs=1e-5)
    assert evaluated.lengths[0] == len(recorded.action)
