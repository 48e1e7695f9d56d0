"""One actor: slots of an environment, a policy, and the segments that they make."""

from __future__ import annotations

import time

import numpy as np
import torch

from distdqn.act.exploration import make_exploration
from distdqn.act.intrinsic_reward import IntrinsicReward
from distdqn.act.policy import Policy
from distdqn.act.priorities import InitialPriorities
from distdqn.act.segmenter import Segmenter, Steps
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
        self, env: EnvConfig, agent: AgentConfig, actors: ActorsConfig, index: int, seed: int, run_id: int = 0
    ) -> None:
        self.agent, self.index, self.run_id = agent, index, run_id
        self.slots, self.threads = actors.envs_per_actor, actors.threads
        self.env = make_env(env, self.slots, actors.threads, seed)
        self.spec = self.env.spec
        self.rng = np.random.default_rng([seed, index])
        places = np.arange(index * self.slots, (index + 1) * self.slots)
        self.exploration = make_exploration(agent.exploration, places, actors.count * self.slots, self.rng)
        self.context = places % agent.contexts
        self.policy = Policy(agent, self.spec, self.slots, self.context, noise=seed)
        initial = self.policy.initial.numpy()
        self.segmenter = Segmenter(self.spec, self.slots, actors.rollout_steps, agent.window, initial)
        self.initial = InitialPriorities(agent, actors.rollout_steps, self.context, self.policy.network.head)
        self.novelty = IntrinsicReward(agent.bonus, self.spec, self.slots, seed) if agent.bonus.kind == "ngu" else None
        self.frame = self.env.reset()
        self.age = np.zeros(self.slots, np.int32)
        self.dummy = np.zeros(self.slots, bool)
        self.game_return = np.zeros(self.slots)
        self.game_length = np.zeros(self.slots, np.int64)
        self.first_step = -agent.window
        """Index in the slots' streams of the next segment's first step; negative before the streams began."""

    def rollout(self, weights: Weights, env_steps: int = 0) -> tuple[Segment, RolloutStats]:
        """T steps of every slot with `weights`: one segment a slot, and what happened.

        Args:
            env_steps: agent steps of the whole system so far, for an annealed epsilon or temperature.
        """
        start = time.perf_counter()
        torch.set_num_threads(self.threads)  # other components in this process have their own number
        if self.novelty is not None and weights.version != self.policy.version:
            self.novelty.load(weights.arrays)
        self.policy.load(weights)
        epsilon = self.exploration.epsilons(env_steps)
        finished: list[tuple[float, int, int]] = []
        steps = 0
        while not self.segmenter.full:
            stacks = self.segmenter.observe(self.frame)
            q = self.policy.q_values(stacks, self.age)
            action = self.exploration.actions(q, env_steps)
            self.segmenter.before(self.age, q, action, self.dummy, self.policy.before.numpy())
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
            transitions=int(segment.valid.sum()) * self.agent.sequence.stride,
            weights_version=weights.version,
            seconds=time.perf_counter() - start,
            returns=tuple(r for r, _, _ in finished),
            lengths=tuple(n for _, n, _ in finished),
            slots=tuple(s for _, _, s in finished),
            epsilons=tuple(float(epsilon[s]) for _, _, s in finished),
            q_mean=q_mean,
            bonus_mean=float(segment.bonus.mean()) if segment.bonus.size else 0.0,
        )

    def _step(self, action: np.ndarray, finished: list[tuple[float, int, int]]) -> None:
        step = self.env.step(action)
        # the dummy step after an end belongs to the old episode; its answer is the new one's first frame
        age = np.where(self.dummy, 0, self.age + 1).astype(np.int32)
        self.segmenter.after(step.reward, step.terminated, step.last, self._bonus(step.frame, age))
        self.policy.remember(action, step.reward)
        self.frame = step.frame
        self.game_return += step.reward
        self.game_length += self.spec.frame_skip * ~self.dummy
        for slot in np.nonzero(step.last)[0]:
            finished.append((float(self.game_return[slot]), int(self.game_length[slot]), int(slot)))
            self.game_return[slot] = self.game_length[slot] = 0
        self.age = age
        self.dummy = step.last.copy()

    def _bonus(self, frame: np.ndarray, age: np.ndarray) -> np.ndarray | float:
        """The intrinsic reward of the step that led to `frame` `[N, ...]`, float32 `[N]`."""
        if self.novelty is None:
            return 0.0
        observation = self.policy.observation(self.segmenter.ahead(frame), age)
        return self.novelty.bonus(observation, age == 0)

    def _segment(self, steps: Steps, version: int) -> Segment:
        t = self.segmenter.rollout_steps
        origin = np.empty((self.slots, 5), np.int64)
        origin[:] = (self.run_id, self.index, 0, self.first_step, version)
        origin[:, 2] = np.arange(self.slots)
        valid, priority = self.initial(steps)
        size = steps.memory.shape[2]
        memory = steps.memory[: t : self.agent.sequence.stride] if size else steps.memory[:1]

        def by_slot(array: np.ndarray) -> np.ndarray:
            return array.swapaxes(0, 1).copy()  # of one slot even the swapped view is contiguous

        return Segment(
            frames=by_slot(steps.frames),
            action=by_slot(steps.action),
            reward=by_slot(steps.reward),
            terminated=by_slot(steps.terminated),
            last=by_slot(steps.last),
            valid=by_slot(valid),
            age=by_slot(np.where(steps.real, steps.age, -1).astype(np.int32)),
            bonus=by_slot(steps.bonus if self.novelty is not None else steps.bonus[:0]),
            memory=by_slot(memory),
            priority=by_slot(priority),
            origin=origin,
        )

    def close(self) -> None:
        """Ends the emulators."""
        self.env.close()
