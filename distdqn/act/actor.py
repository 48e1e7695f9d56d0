"""One actor: slots of an environment, a policy, and the segments that they make."""

import time

import numpy as np
import torch

from distdqn.act.exploration import EXPLORATIONS, Exploration
from distdqn.act.intrinsic_reward import IntrinsicReward
from distdqn.act.policy import Policy
from distdqn.act.priorities import InitialPriorities
from distdqn.act.segmenter import Rollout, Segmenter, agent_fields
from distdqn.algo.exploration import spread
from distdqn.config import ActorsConfig, AgentConfig, EnvConfig
from distdqn.config.section import build
from distdqn.envs.registry import make_env
from distdqn.packed import Packed, pack
from distdqn.types import EnvStep, RolloutStats, Segment, Weights


class Actor:
    """Plays its slots and gives segments with initial priorities from the Q-values it saw while acting.

    Args:
        index: place of this actor among `actors.count`; its slots keep theirs on the epsilon ladder through a restart.
            Where it is auto, whoever plays at present covers the ladder evenly.
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
        place = index if isinstance(actors.count, int) else int(spread(actors.places)[index])
        places = np.arange(place * self.slots, (place + 1) * self.slots)
        slots = actors.places * self.slots
        self.exploration: Exploration = build(agent.exploration, EXPLORATIONS, places, slots, self.rng)
        self.context = places % agent.contexts
        self.policy = Policy(agent, self.spec, self.slots, self.context, noise=seed)
        kept, initial = agent_fields(agent), self.policy.initial.numpy()
        self.segmenter = Segmenter(self.spec, self.env.reset(), actors.rollout_steps, agent.window, initial, kept)
        self.history = self.segmenter.history
        self.initial = InitialPriorities(agent, actors.rollout_steps, self.context, self.policy.network.head)
        self.novelty = IntrinsicReward(agent.bonus, self.spec, self.slots, seed) if agent.bonus.kind == "ngu" else None
        self.game_return = np.zeros(self.slots)
        self.game_length = np.zeros(self.slots, np.int64)
        self.first_step = -agent.window
        """Index in the slots' streams of the next segment's first step; negative before the streams began."""

    def packed_rollout(self, weights: Weights, env_steps: int) -> tuple[Packed, RolloutStats]:
        """A `rollout` as it travels."""
        segment, stats = self.rollout(weights, env_steps)
        return pack(segment), stats

    def rollout(self, weights: Weights, env_steps: int = 0) -> tuple[Segment, RolloutStats]:
        """T steps of every slot with `weights`: one segment a slot, and what happened. `env_steps`: agent steps of the
        whole system so far, for an annealed epsilon or temperature."""
        start = time.perf_counter()
        torch.set_num_threads(self.threads)  # other components in this process have their own number
        if self.novelty is not None and weights.version != self.policy.version:
            self.novelty.load(weights.arrays)
        self.policy.load(weights)
        epsilon = self.exploration.epsilons(env_steps)
        finished: list[tuple[float, int, int]] = []
        steps = 0
        while not self.segmenter.full:
            q = self.policy.q_values(self.history.stacks, self.history.age)
            action = self.exploration.actions(q, env_steps)
            self.segmenter.before(q, action, self.policy.input_state.numpy(), **self.exploration.noted)
            steps += self.slots - int(self.history.dummy.sum())
            self._step(action, finished)
        rollout = self.segmenter.rollout()
        segment, q_mean = self._segment(rollout, weights.version), float(rollout.q.max(-1).mean())
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
            bonus_mean=float(segment.bonus.mean()) if self.novelty is not None else 0.0,
        )

    def _step(self, action: np.ndarray, finished: list[tuple[float, int, int]]) -> None:
        step = self.env.step(action)
        self._check(step)
        self.game_return += step.reward
        self.game_length += self.spec.frame_skip * ~self.history.dummy
        self.history.push(step.frame, step.last)
        self.segmenter.after(step, **self._bonus())
        self.policy.remember(action, step.reward)
        for slot in np.nonzero(step.last)[0]:
            finished.append((float(self.game_return[slot]), int(self.game_length[slot]), int(slot)))
            self.game_return[slot] = self.game_length[slot] = 0

    def _check(self, step: EnvStep) -> None:
        """ValueError where the environment gives what nothing could be learned from: once stored, the priority of an
        infinite reward would draw it into every minibatch."""
        if step.frame.shape[1:] != self.spec.frame_shape or step.reward.shape != (self.slots,):
            raise ValueError(f"the environment gives frames {step.frame.shape} and rewards {step.reward.shape}")
        if not np.isfinite(step.reward).all():
            raise ValueError(f"the environment gives a reward that is not finite: {step.reward}")
        if not (self.spec.pixels or np.isfinite(step.frame).all()):
            raise ValueError("the environment gives an observation that is not finite")

    def _bonus(self) -> dict[str, np.ndarray]:
        """The intrinsic reward of the step that led to the present frames, float32 `[N]`."""
        if self.novelty is None:
            return {}
        observation = self.policy.observation(self.history.stacks, self.history.age)
        return {"bonus": self.novelty.bonus(observation, self.history.age == 0)}

    def _segment(self, rollout: Rollout, version: int) -> Segment:
        t = self.segmenter.rollout_steps
        origin = np.empty((self.slots, 5), np.int64)
        origin[:] = (self.run_id, self.index, 0, self.first_step, version)
        origin[:, 2] = np.arange(self.slots)
        valid, priority = self.initial(rollout)
        size = rollout.memory.shape[2]
        memory = rollout.memory[: t : self.agent.sequence.stride] if size else rollout.memory[:1]

        def by_slot(array: np.ndarray) -> np.ndarray:
            return array.swapaxes(0, 1).copy()  # of one slot even the swapped view is contiguous

        return Segment(
            frames=by_slot(rollout.frames),
            steps={name: by_slot(array) for name, array in rollout.steps.items()},
            valid=by_slot(valid),
            memory=by_slot(memory),
            priority=by_slot(priority),
            origin=origin,
        )

    def close(self) -> None:
        """Ends the emulators."""
        self.env.close()
