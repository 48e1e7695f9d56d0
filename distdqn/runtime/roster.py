"""Who takes part in a run, and how each is started and replaced."""

import numpy as np

from distdqn.act.actor import Actor
from distdqn.config import RunConfig
from distdqn.evaluate.evaluator import Evaluator
from distdqn.learn.learner import Learner
from distdqn.replay.journal import JournalPlace
from distdqn.replay.journaled import JournaledShard
from distdqn.replay.shard import ReplayShard
from distdqn.replay.storage import EPOCHS
from distdqn.runtime.engine import Engine, Handle, Needs
from distdqn.types import EnvSpec

_KINDS = {"actor": 0, "shard": 1, "learner": 2, "evaluator": 3}


class Roster:
    """Starts components, each with its place, its needs and a seed of its own.

    Args:
        run_id: 63-bit number that marks this run's segments.
        session: how often the run was resumed; no session plays the games of an earlier one again.
        gpus: GPUs that the learner takes, 0 or 1.
        home: the engine's name of the machine that the learner is to be on, and with it `beside` shards.
    """

    def __init__(
        self,
        config: RunConfig,
        spec: EnvSpec,
        engine: Engine,
        run_id: int,
        session: int,
        gpus: float,
        home: str = "",
        beside: int = 0,
    ) -> None:
        self.config, self.spec, self.engine = config, spec, engine
        self.run_id, self.session, self.gpus = run_id, session, gpus
        self.home, self.beside = home, beside
        self._lives: dict[str, int] = {}
        self._epochs = session

    def _seed(self, kind: str, index: int) -> int:
        name = f"{kind}-{index}"
        life = self._lives[name] = self._lives.get(name, -1) + 1
        entropy = [self.config.seed, self.session, _KINDS[kind], index, life]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> 1)

    def actor(self, index: int) -> Handle:
        """Starts actor `index`, on its own place on the epsilon ladder. It leaves the core to the learner where they
        share one: a learner on several threads waits for the slowest of them at every layer, while a rollout that takes
        a little longer keeps nobody waiting."""
        c, seed = self.config, self._seed("actor", index)
        needs = Needs(c.actors.threads, spread=True, yields=True)
        args = (c.env, c.agent, c.actors, index, seed, self.run_id)
        return self.engine.start(f"actor-{index}", needs, Actor, *args)

    def shard(self, index: int, place: JournalPlace | None) -> Handle:
        """Starts shard `index`, with an epoch that no shard of this session had, and with what its journal holds. Its
        draws have numbers, so all lives and sessions have the same seed."""
        c, replay = self.config, self.config.replay
        seed = int(np.random.SeedSequence([c.seed, _KINDS["shard"], index]).generate_state(1)[0] >> 1)
        capacity, epoch = replay.capacity // replay.shards, self._epochs % EPOCHS
        self._epochs += 1
        args = (replay, capacity, c.actors.rollout_steps, epoch, seed, c.agent.sequence.stride)
        kind, first = (ReplayShard, ()) if place is None else (JournaledShard, (place,))
        needs = Needs(near=self.home) if index < self.beside else Needs(spread=True)
        return self.engine.start(f"shard-{index}", needs, kind, *first, *args)

    def learner(self) -> Handle:
        """Starts the learner; every life and session begins with the same weights until it is restored."""
        c = self.config
        seed = int(np.random.SeedSequence([c.seed, _KINDS["learner"]]).generate_state(1)[0] >> 1)
        needs = Needs(c.learner.threads, self.gpus, near=self.home)
        return self.engine.start("learner", needs, Learner, c.agent, c.learner, self.spec, seed, c.engine.lockstep)

    def evaluator(self) -> Handle:
        """Starts the evaluator."""
        c, seed = self.config, self._seed("evaluator", 0)
        needs = Needs(c.evaluation.threads, yields=True)
        return self.engine.start("evaluator", needs, Evaluator, c.env, c.agent, c.evaluation, seed)

    def cpus_for(self, name: str) -> int:
        """Logical CPUs that the component `name` asks for."""
        c, kind = self.config, name.partition("-")[0]
        asked = {"actor": c.actors.threads, "learner": c.learner.threads, "evaluator": c.evaluation.threads}
        return asked.get(kind, 1)

    @staticmethod
    def cpus_of(config: RunConfig) -> int:
        """Logical CPUs that all components of `config` ask for together, with count=auto the least of them."""
        return config.actors.least * config.actors.threads + config.other_cpus
