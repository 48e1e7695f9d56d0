"""Plays whole games with given weights and next to no exploration."""

import math
import time
from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch

from distdqn.act.exploration import Fixed
from distdqn.act.history import History
from distdqn.act.policy import Policy
from distdqn.config import AgentConfig, EnvConfig, EvaluationConfig
from distdqn.envs.registry import make_env, make_rendered_env
from distdqn.evaluate.film import Film
from distdqn.types import Evaluation, Recording, Weights


class Evaluator:
    """Evaluates and records. Every call plays new games, the same ones for the same seed and number of calls."""

    def __init__(self, env: EnvConfig, agent: AgentConfig, config: EvaluationConfig, seed: int) -> None:
        torch.set_num_threads(config.threads)
        self.env, self.agent, self.config = env, agent, config
        self.seed, self.calls = seed, 0
        self._games: Iterator[Evaluation | None] = iter(())

    def _seeds(self) -> tuple[int, np.random.Generator]:
        self.calls += 1
        sequence = np.random.SeedSequence([self.seed, self.calls])
        return int(sequence.generate_state(1)[0] >> 1), np.random.default_rng(sequence)

    def evaluate(self, weights: Weights, episodes: int) -> Evaluation:
        """Unclipped returns of `episodes` whole games.

        Every slot plays its share of them to the end: taking whichever games end first would favour short ones. A game
        is cut, and counted as it stands, after `evaluation.max_frames`; its slot plays no other one.
        """
        self.begin(weights, episodes)
        while (result := self.proceed(math.inf)) is None:
            pass
        return result

    def begin(self, weights: Weights, episodes: int) -> None:
        """Begins an evaluation, which `proceed` goes on with; one that was under way is left."""
        self._games = self._play(weights, episodes)

    def proceed(self, seconds: float) -> Evaluation | None:
        """Plays on for about `seconds`: what `evaluate` gives once all games have ended, None before."""
        until = time.perf_counter() + seconds
        for result in self._games:
            if result is not None or time.perf_counter() >= until:
                return result
        raise ValueError("no evaluation has begun")

    def _play(self, weights: Weights, episodes: int) -> Iterator[Evaluation | None]:
        """None after each step, at last the result."""
        start = time.perf_counter()
        seed, rng = self._seeds()
        slots = min(self.config.envs, episodes)
        quota = np.array([len(q) for q in np.array_split(np.arange(episodes), slots)])
        env = make_env(self.env, slots, self.config.threads, seed)
        policy = Policy(self.agent, env.spec, slots)
        policy.load(weights)
        history = History(env.spec, env.reset())
        game_return, game_steps = np.zeros(slots), np.zeros(slots, np.int64)
        longest = -(-self.config.max_frames // env.spec.frame_skip)
        exploration = Fixed(self.config.epsilon, slots, rng)
        games: list[list[tuple[float, int]]] = [[] for _ in range(slots)]
        while any(len(g) < q for g, q in zip(games, quota, strict=True)):
            action = exploration.actions(policy.q_values(history.stacks, history.age), 0)
            step = env.step(action)
            policy.remember(action, step.reward)
            game_return += step.reward
            game_steps += ~history.dummy
            for slot in np.nonzero(step.last | (game_steps >= longest))[0]:
                if len(games[slot]) < quota[slot]:
                    games[slot].append((float(game_return[slot]), int(game_steps[slot]) * env.spec.frame_skip))
                if not step.last[slot]:
                    quota[slot] = len(games[slot])
                game_return[slot] = game_steps[slot] = 0
            history.push(step.frame, step.last)
            yield None
        env.close()
        returns, lengths = zip(*chain.from_iterable(games), strict=True)
        yield Evaluation(weights.version, returns, lengths, seconds=time.perf_counter() - start)

    def record(self, weights: Weights, max_steps: int = 5000) -> Recording:
        """One game, frame by frame, with the Q-values before each action; cut after `max_steps` agent steps."""
        seed, rng = self._seeds()
        env = make_rendered_env(self.env, seed)
        policy = Policy(self.agent, env.spec, 1)
        policy.load(weights)
        history = History(env.spec, env.reset())
        exploration = Fixed(self.config.epsilon, 1, rng)
        frames, values, actions, rewards = Film(), [], [], []
        for _ in range(max_steps):
            frames.append(env.render())
            values.append(policy.q_values(history.stacks, history.age)[0].copy())
            action = exploration.actions(values[-1][None], 0)
            step = env.step(action)
            policy.remember(action, step.reward)
            actions.append(int(action[0]))
            rewards.append(float(step.reward[0]))
            history.push(step.frame, step.last)
            if step.last[0]:
                break
        env.close()
        return Recording(
            frames=frames,
            q=np.stack(values),
            action=np.array(actions, np.int64),
            reward=np.array(rewards, np.float32),
            game_return=float(sum(rewards)),
        )
