"""A per-step field that is declared outside the package, from who acts to who learns."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from distdqn.act.actor import Actor
from distdqn.act.exploration import Greedy
from distdqn.config import ActorsConfig, EnvConfig, ExplorationConfig, Import, ReplayConfig
from distdqn.learn.minibatch import join, on_cpu, split_parts
from distdqn.packed import pack
from distdqn.replay.shard import ReplayShard
from distdqn.types import Segment, StepField, Weights, named_arrays
from tests.configs import agent_config, network_config


class Scheme(Greedy):
    """An exploration scheme of one's own, which keeps the probability of what it did and where it looked."""

    fields = (StepField("behaviour", "float32", "mu(a | x)"), StepField("gaze", "int16", "where", shape=(2, 3)))
    calls = 0

    def actions(self, q: np.ndarray, env_steps: int) -> np.ndarray:
        """Notes, of a step, what tells which step of which slot it is."""
        self.calls += 1
        number = 100 * np.arange(len(q)) + self.calls
        self.noted = {"behaviour": number / 1000, "gaze": number[:, None, None] + np.arange(6).reshape(2, 3)}
        return super().actions(q, env_steps)


@pytest.fixture
def segments() -> list[Segment]:
    """Five rollouts of two slots that play Catch with a `Scheme`."""
    exploration = ExplorationConfig(kind=Import("tests.act.test_fields:Scheme"))
    agent = agent_config(network=network_config(torso="mlp", hidden=(4,)), n_step=2, exploration=exploration)
    actors = ActorsConfig(count=1, envs_per_actor=2, rollout_steps=8)
    actor = Actor(EnvConfig(kind="catch"), agent, actors, 0, 0)
    weights = Weights(0, actor.policy.network.arrays())
    return [actor.rollout(weights)[0] for _ in range(5)]


def test_it_arrives_in_minibatches(segments: list[Segment]) -> None:
    shards = [ReplayShard(ReplayConfig(kind="uniform"), 40, 8, 0, seed) for seed in (0, 1)]
    for k, segment in enumerate(segments):
        assert segment.gaze.shape == (2, 10, 2, 3)
        shards[k % 2].add(pickle.loads(pickle.dumps(pack(segment))))
    batches = [shard.sample((20, 30), 0.4)[0] for shard in shards]
    compared = 0
    for whole, minibatch in zip(map(join, split_parts(batches)), on_cpu(split_parts(batches)), strict=True):
        assert (minibatch.behaviour.dtype, minibatch.behaviour.shape) == (torch.float32, (len(whole), 2))
        assert (minibatch.gaze.dtype, minibatch.gaze.shape) == (torch.int16, (len(whole), 2, 2, 3))
        for row, origin in enumerate(whole.origin.tolist()):
            slot, first = origin[2], origin[3] + origin[5]
            for k in range(2):
                number = 100 * slot + first + k + 1  # the first call of the scheme was that of step 0
                assert minibatch.behaviour[row, k] == np.float32(number / 1000)
                assert minibatch.gaze[row, k].flatten().tolist() == [number + i for i in range(6)]
                compared += 1
    assert compared == 2 * (2 * 20 + 2 * 30)


def test_arrays_travel_out_of_band(segments: list[Segment]) -> None:
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(segments[0], protocol=5, buffer_callback=buffers.append)
    assert len(head) < 1000
    assert sum(b.raw().nbytes for b in buffers) == sum(a.nbytes for a in named_arrays(segments[0]).values())
    back = pickle.loads(head, buffers=buffers)
    assert back.steps.keys() == segments[0].steps.keys()
    assert np.shares_memory(back.reward, segments[0].reward), "nothing is copied"


def test_a_record_tells_what_it_lacks(segments: list[Segment]) -> None:
    with pytest.raises(AttributeError, match=r"^Segment has no bonus$"):
        _ = segments[0].bonus
