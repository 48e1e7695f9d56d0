"""One actor: slots of an environment, a policy, and the segments that they make."""

from __future__ import annotations

import time

import numpy as np
import torch

from distdqn.act.policy import Policy
from distdqn.act.segmenter import Segmenter, Steps
from distdqn.algo import exploration
from distdqn.algo.returns import n_step, transform_reward
from distdqn.config import ActorsConfig, AgentConfig, EnvConfig
from distdqn.envs.registry import make_env
from distdqn.types import RolloutStats, Segment, Weights


class Actor:
    """Plays its slots and gives segments with initial priorities from the Q-values it saw while acting.

    Args:
        index: place of this actor among `actors.count`; with it its slots keep their places on the epsilon
            ladder, also after a restart.
        seed: differs from one actor to another and from one life of an actor to the next.
        run_id: goes into each segment's provenance.
    """

    def __init__(
        self,
        env: EnvConfig,
        agent: AgentConfig,
        actors: ActorsConfig,
        index: int,
        seed: int,
        run_id: int = 0,
    ) -> None:
        torch.set_num_threads(actors.threads)
        self.agent, self.index, self.run_id = agent, index, run_id
        self.slots = actors.envs_per_actor
        self.env = make_env(env, self.slots, actors.threads, seed)
        self.spec = self.env.spec
        self.rng = np.random.default_rng([seed, index])
        self.policy = Policy(agent.network, self.spec, self.slots)
        self.segmenter = Segmenter(self.spec, self.slots, actors.rollout_steps, agent.n_step)
        places = slice(index * self.slots, (index + 1) * self.slots)
        e = agent.exploration
        self.ladder = exploration.ladder(actors.count * self.slots, e.epsilon, e.alpha)[places]
        self.frame = self.env.reset()
        self.age = np.zeros(self.slots, np.int32)
        self.dummy = np.zeros(self.slots, bool)
        self.game_return = np.zeros(self.slots)
        self.game_length = np.zeros(self.slots, np.int64)
        self.first_step = -agent.n_step
        """Index in the slots' streams of the next segment's first step; negative before the streams began."""

    def epsilons(self, env_steps: int) -> np.ndarray:
        """epsilon of each slot `[N]` after `env_steps` agent steps of the whole system."""
        e = self.agent.exploration
        if e.kind == "ladder":
            return self.ladder
        return np.full(self.slots, exploration.annealed(env_steps, e.epsilon, e.final_epsilon, e.anneal_steps))

    def rollout(self, weights: Weights, env_steps: int = 0) -> tuple[Segment, RolloutStats]:
        """T steps of every slot with `weights`: one segment a slot, and what happened.

        Args:
            env_steps: agent steps of the whole system so far, for an annealed epsilon.
        """
        start = time.perf_counter()
        self.policy.load(weights)
        epsilon = self.epsilons(env_steps)
        finished: list[tuple[float, int, int]] = []
        steps = 0
        while not self.segmenter.full:
            stacks = self.segmenter.observe(self.frame)
            q = self.policy.q_values(stacks, self.age)
            action = exploration.epsilon_greedy(q, epsilon, self.rng)
            self.segmenter.before(self.age, q, action, self.dummy)
            steps += self.slots - int(self.dummy.sum())
            self._step(action, finished)
        segment = self._segment(self.segmenter.steps(), weights.version)
        q_mean = float(self.segmenter.steps().q.max(-1).mean())
        self.segmenter.roll()
        self.first_step += self.segmenter.rollout_steps
        return segment, RolloutStats(
            actor=self.index,
            steps=steps,
            frames=steps * self.spec.frame_skip,
            transitions=int(segment.valid.sum()),
            weights_version=weights.version,
            seconds=time.perf_counter() - start,
            returns=tuple(r for r, _, _ in finished),
            lengths=tuple(n for _, n, _ in finished),
            slots=tuple(s for _, _, s in finished),
            epsilons=tuple(float(epsilon[s]) for _, _, s in finished),
            q_mean=q_mean,
        )

    def _step(self, action: np.ndarray, finished: list[tuple[float, int, int]]) -> None:
        step = self.env.step(action)
        self.segmenter.after(step.reward, step.terminated, step.last)
        self.frame = step.frame
        self.game_return += step.reward
        self.game_length += self.spec.frame_skip * ~self.dummy
        for slot in np.nonzero(step.last)[0]:
            finished.append((float(self.game_return[slot]), int(self.game_length[slot]), int(slot)))
            self.game_return[slot] = self.game_length[slot] = 0
        # the dummy step after an end belongs to the old episode; its answer is the new one's first frame
        self.age = np.where(self.dummy, 0, self.age + 1).astype(np.int32)
        self.dummy = step.last.copy()

    def _segment(self, steps: Steps, version: int) -> Segment:
        t = self.segmenter.rollout_steps
        origin = np.empty((self.slots, 5), np.int64)
        origin[:] = (self.run_id, self.index, 0, self.first_step, version)
        origin[:, 2] = np.arange(self.slots)

        def by_slot(array: np.ndarray) -> np.ndarray:
            return array.swapaxes(0, 1).copy()  # of one slot even the swapped view is contiguous

        return Segment(
            frames=by_slot(steps.frames),
            action=by_slot(steps.action),
            reward=by_slot(steps.reward),
            terminated=by_slot(steps.terminated),
            last=by_slot(steps.last),
            valid=by_slot(steps.real[:t]),
            age=by_slot(steps.age),
            memory=np.zeros((self.slots, 0), np.float32),
            priority=by_slot(self._priorities(steps)),
            origin=origin,
        )

    def _priorities(self, steps: Steps) -> np.ndarray:
        """|n-step TD error| of each window start, float32 `[T, N]`, by the acting network's own values."""
        t, window = self.segmenter.rollout_steps, self.segmenter.window

        def windows(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array).unfold(0, window, 1)[:t]

        reward = transform_reward(windows(steps.reward), self.agent.reward)
        target = n_step(reward, windows(steps.terminated), windows(steps.last), self.agent.discount)
        rows, columns = np.arange(t)[:, None], np.arange(self.slots)[None]
        bootstrap = steps.q[rows + target.steps.numpy(), columns].max(-1)
        value = steps.q[rows, columns, steps.action[:t]]
        td = target.returns.numpy() + target.discount.numpy() * bootstrap - value
        # values that overflow would otherwise end the run in the shard, before the learner can say why
        return np.nan_to_num(np.abs(td), nan=0.0, posinf=1e6).astype(np.float32)

    def close(self) -> None:
        """Ends the emulators."""
        self.env.close()
