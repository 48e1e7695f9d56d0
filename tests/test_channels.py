"""Images with channels, from the environment to an update, an evaluation and a film."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from PIL import Image

from distdqn import pretrain
from distdqn.act.actor import Actor
from distdqn.act.policy import Policy
from distdqn.config import (
    ActorsConfig,
    AgentConfig,
    AugmentConfig,
    AuxiliaryConfig,
    BonusConfig,
    ConfigError,
    EnvConfig,
    EvaluationConfig,
    ReplayConfig,
    RunConfig,
    SequenceConfig,
)
from distdqn.envs.registry import check_env, make_env
from distdqn.evaluate.evaluator import Evaluator
from distdqn.evaluate.video import write_gif
from distdqn.learn.auxiliary import Autoencoder
from distdqn.learn.learner import Learner
from distdqn.nets.qnetwork import QNetwork, as_floats
from distdqn.replay.shard import ReplayShard
from distdqn.runtime.preflight import bytes_per_transition, check
from distdqn.types import Batch, Weights
from tests.configs import agent_config, learner_config, network_config


class Runner(gymnasium.Env[Any, Any]):
    """A cell that moves along the rows of a grid, in a channel of its own; the others show its trail, the goal and
    nothing. Moving right gives 1; an episode ends after seven steps. It cannot draw itself."""

    def __init__(self, side: int = 10, channels: int = 4, colours: bool = False) -> None:
        self.high = 255 if colours else 1
        self.shape = (side, side, channels)
        self.observation_space = Box(0, self.high, self.shape, np.uint8 if colours else np.bool_)
        self.action_space = Discrete(3)
        self.at, self.count = 0, 0

    def _see(self) -> np.ndarray:
        seen = np.zeros(self.shape, self.observation_space.dtype)
        seen[self.count, self.at, 0] = seen[: self.count, 0, 1] = seen[-1, -1, 2] = self.high
        return seen

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, Any]:
        super().reset(seed=seed)
        self.at, self.count = int(self.np_random.integers(3)), 0
        return self._see(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, Any]:
        self.at, self.count = self.at + (action == 2), self.count + 1
        return self._see(), float(action == 2), self.count == 7, False, {}


gymnasium.register("distdqn-test/Runner-v0", entry_point=Runner)


@dataclass(frozen=True)
class Case:
    """An environment, and the shape of a frame and an observation of it."""

    env: EnvConfig
    frame: tuple[int, ...]
    dtype: str
    observation: tuple[int, ...]


GRID = EnvConfig(kind="gym", id="distdqn-test/Runner-v0", frame_size=None, stack=2)
RGB = replace(GRID, kwargs={"side": 12, "channels": 3, "colours": True})
CASES = {
    "grid": Case(GRID, (10, 10, 4), "bool", (8, 10, 10)),
    "grid of one": Case(replace(GRID, stack=1), (10, 10, 4), "bool", (4, 10, 10)),
    "rgb": Case(RGB, (12, 12, 3), "uint8", (6, 12, 12)),
}
SMALL = network_config(torso="small", hidden=(16,), dueling=True)
NGU = BonusConfig(kind="ngu", lifelong_max=5.0, embedding=4)
LSTM = network_config(SMALL, memory="lstm", memory_size=8)
LEARNER = learner_config(device="cpu", compile="off", precision="float32", threads=1, batch_size=16)
AGENTS = {
    "dqn_2013": agent_config(network=network_config(SMALL, torso="dqn_2013"), auxiliary="autoencoder"),
    "impala": agent_config(network=network_config(SMALL, torso="impala", pool=2)),
    "mlp": agent_config(network=network_config(torso="mlp", hidden=(8,))),
    "ngu": agent_config(network=SMALL, bonus=NGU, reward="none"),
    "r2d2": agent_config(network=LSTM, sequence=SequenceConfig(length=4, burn_in=2, overlap=2), n_step=1),
}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def played(case: Case, agent: AgentConfig) -> tuple[Batch, Learner, ReplayShard]:
    """Windows of an actor's play, the learner whose weights it had, and the shard that they are from."""
    spec = check_env(case.env)
    learner = Learner(agent, LEARNER, spec, 0)
    actor = Actor(case.env, agent, ActorsConfig(count=1, envs_per_actor=4, rollout_steps=16), 0, 0)
    shard = ReplayShard(ReplayConfig(), 16 * 16, 16, 0, 0, agent.sequence.stride)
    for _ in range(4):
        segment, _ = actor.rollout(learner.weights())
        assert segment.frames.shape == (4, spec.stack - 1 + 16 + agent.window, *case.frame)
        shard.add(segment)
    return shard.sample((8, 8), 0.4)[0], learner, shard


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_spec(case: Case) -> None:
    spec = check_env(case.env)
    assert (spec.frame_shape, spec.frame_dtype, spec.observation_shape) == (case.frame, case.dtype, case.observation)
    assert spec.pixels and spec.channels == case.frame[2] and spec.stack == case.env.stack
    env = make_env(case.env, 2, 1, 0)
    frame = env.reset()
    assert (frame.shape, frame.dtype) == ((2, *case.frame), case.dtype)


@pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_play_and_learn(case: Case, agent: AgentConfig) -> None:
    batch, learner, shard = played(case, agent)
    assert (batch.frames.dtype, batch.frames.shape[2:]) == (case.dtype, case.frame)
    before = learner.online.arrays()
    priorities, stats = learner.update(0.0, batch)
    assert stats.updates == 2 and np.isfinite([stats.metrics["loss"], stats.metrics["grad_norm"]]).all()
    assert np.isfinite(priorities.priority).all() and len(priorities.priority) == 16
    assert all((before[n] != a).any() for n, a in learner.online.arrays().items() if n.endswith("weight"))
    config = RunConfig(
        env=case.env,
        agent=agent,
        learner=LEARNER,
        actors=ActorsConfig(count=1, envs_per_actor=4, rollout_steps=16),
        replay=ReplayConfig(capacity=16 * 16, min_size=16),
    )
    estimated = bytes_per_transition(config, learner.spec) * 16 * 16
    assert shard.stats().nbytes == pytest.approx(estimated + 48 * 16)  # provenance and book-keeping


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_the_learner_and_the_actor_see(case: Case) -> None:
    """Frame by frame and channel by channel, in [0, 1], older episodes' frames blank."""
    batch, learner, _ = played(case, agent_config(network=SMALL))
    shown: list[torch.Tensor] = []
    torso = learner.online.torso
    torso.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0].clone()))
    batch = replace(batch, sizes=(16,))
    learner.update(0.0, batch)
    (seen, *_) = shown
    assert seen.shape == (16, *case.observation) and (seen.min(), seen.max()) == (0, 1)
    channels, stack = case.frame[2], case.env.stack
    policy = Policy(learner.agent, learner.spec, 16)
    acting = policy.observation(batch.frames[:, :stack].swapaxes(0, 1), batch.age[:, 0])
    assert torch.equal(as_floats(acting), seen)
    scale = 255 if case.dtype == "uint8" else 1
    for row in range(16):
        for plane in range(stack):
            back = stack - 1 - plane
            frame = batch.frames[row, plane] / scale * (back <= batch.age[row, 0])
            for c in range(channels):
                np.testing.assert_allclose(seen[row, plane * channels + c], frame[:, :, c], atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*render_mode='rgb_array'")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_evaluation_and_a_film(case: Case, tmp_path: Path) -> None:
    agent = agent_config(network=SMALL)
    spec = check_env(case.env)
    evaluator = Evaluator(case.env, agent, EvaluationConfig(envs=2, threads=1), 0)
    weights = Weights(0, QNetwork(SMALL, spec).arrays())
    assert evaluator.evaluate(weights, 3).lengths == (7, 7, 7)
    recording = evaluator.record(weights)
    assert recording.q.shape == (7, 3)
    first = recording.frames[0]
    assert first.dtype == np.uint8 and first.shape[2] == 3 and len(np.unique(first.reshape(-1, 3), axis=0)) > 2
    with Image.open(write_gif(recording, spec, tmp_path / "film.gif")) as film:
        assert film.n_frames == 7  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_flicker(case: Case) -> None:
    env = make_env(replace(case.env, flicker=0.5), 200, 1, 0)
    frame = env.reset()
    assert frame.dtype == case.dtype
    assert 0.3 < frame.any((1, 2, 3)).mean() < 0.7


@pytest.mark.parametrize(("name", "augment"), [("grid", "shift"), ("rgb", "both")])
def test_augmented(name: str, augment: str) -> None:
    case = CASES[name]
    batch, learner, _ = played(case, agent_config(network=SMALL))
    config = replace(LEARNER, augment=AugmentConfig(augment, online_views=2))
    augmented = Learner(learner.agent, config, learner.spec, 0)
    assert augmented.update(0.0, batch)[-1].updates == 2


@pytest.mark.parametrize(
    ("env", "agent", "learner", "message"),
    [
        (
            GRID,
            {},
            {"augment": AugmentConfig("intensity")},
            r"^learner\.augment\.kind=intensity: .*bool .*; use shift$",
        ),
        (GRID, {}, {"augment": AugmentConfig("both")}, r"^learner\.augment\.kind=both: "),
        (RGB, {"contrast": 5.0}, {}, r"^agent\.network\.contrast=5\.0: is for grey images, .* 3 channels; use 0$"),
        (GRID, {"torso": "tabular", "hidden": ()}, {}, r"^agent\.network\.torso\.kind=tabular: "),
    ],
)
def test_what_channels_do_not_go_with(env: EnvConfig, agent: Any, learner: Any, message: str, tmp_path: Path) -> None:
    config = RunConfig(
        env=env,
        agent=agent_config(network=network_config(SMALL, dueling=False, **agent)),
        learner=replace(LEARNER, **learner),
        run_dir=str(tmp_path),
    )
    with pytest.raises(ConfigError, match=message):
        check(config, check_env(env))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pretraining(case: Case, tmp_path: Path) -> None:
    config = RunConfig(env=case.env, agent=agent_config(network=SMALL), learner=LEARNER)
    spec = check_env(case.env)
    images = pretrain.collect(config, spec, 100)
    assert (images.shape, images.dtype) == ((100, *case.observation), case.dtype)
    network = QNetwork(SMALL, spec)
    autoencoder = Autoencoder(AuxiliaryConfig("autoencoder"), network, spec)
    losses = pretrain.fit(network, autoencoder, images, 30, config)
    assert losses[-1] < losses[0]
    error = pretrain.draw(network, autoencoder, images[:4], spec.channels, tmp_path / "seen.png")
    assert 0 < error < 0.5
    with Image.open(tmp_path / "seen.png") as picture:
        seen = np.asarray(picture)
    newest = images[0, -spec.channels :].mean(0) * (255 if case.dtype == "bool" else 1)
    zoom = 128 // case.frame[0]
    np.testing.assert_allclose(
        seen[2 : 2 + zoom * case.frame[0] : zoom, 2 : 2 + zoom * case.frame[1] : zoom], newest, atol=1
    )
