"""Checkpoints, and evaluations and videos of them, beside training."""

import time
from collections.abc import Callable, Generator
from typing import Any

from distdqn.runtime.calls import Call, Task
from distdqn.runtime.engine import NoAnswer
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.system import System
from distdqn.types import Evaluation, State, Weights


class Saving:
    """Owns the evaluator and the clocks of saving and evaluating. What is evaluated is a checkpoint that has been
    saved, so that the best one can be kept. `scored`: called with the metrics of an evaluation."""

    METHODS = ("state", "evaluate", "record")

    def __init__(self, system: System, keeper: Keeper, scored: Callable[[dict[str, float]], None]) -> None:
        self.system, self.keeper, self.scored = system, keeper, scored
        now, config = time.monotonic(), system.config
        self._next_save = now + config.checkpoint.every_seconds
        self._next_evaluation = now + (config.evaluation.every_seconds or float("inf"))
        system.starts("evaluator", self.start_evaluator)

    def start_evaluator(self, index: int = 0) -> None:
        """Starts the evaluator."""
        self.system.handles["evaluator"] = self.system.roster.evaluator()

    def save_first(self) -> None:
        """A run can be resumed from its first second on."""
        s = self.system
        (state,) = s.engine.call(s.handles["learner"], "state")
        self.keeper.save(s.engine.fetch(state), self.counters(), 0)

    def counters(self) -> State:
        """What a checkpoint holds besides the learner."""
        return {"progress": self.system.progress.state(), "limiter": self.system.limiter.state()}

    @property
    def saving(self) -> bool:
        """True while the learner is asked for its state."""
        return bool(self.system.calls.of("state"))

    @property
    def busy(self) -> bool:
        """True while something is being saved, evaluated or recorded."""
        return self.keeper.busy or any(self.system.calls.of(method) for method in self.METHODS)

    def ask(self) -> None:
        """Saves when it is time, and evaluates when that is due and the evaluator is free."""
        now, calls, config = time.monotonic(), self.system.calls, self.system.config
        evaluate = now >= self._next_evaluation and not (calls.of("evaluate") or calls.of("record"))
        if (evaluate or now >= self._next_save) and not calls.of("state"):
            self._next_save = now + config.checkpoint.every_seconds
            if evaluate:
                self._next_evaluation = now + (config.evaluation.every_seconds or float("inf"))
            self.save(evaluate)

    def save(self, evaluate: bool, final: bool = False) -> None:
        """Asks the learner for its state, to be saved and, if `evaluate`, evaluated."""
        self.system.begin(self._checkpoint(evaluate, final))

    def _checkpoint(self, evaluate: bool, final: bool) -> Task:
        """The life of a checkpoint: it is saved, evaluated and, where it is the best so far, filmed."""
        s = self.system
        state: State = yield from self._answer(final, "learner", "state")
        name = self.keeper.save(state, self.counters(), s.progress.count["learner_updates"])
        episodes = s.config.evaluation.final_episodes if final else s.config.evaluation.episodes
        if not (evaluate and episodes and name is not None):
            return
        weights = s.engine.put(Weights(int(state["updates"]), state["online"]))
        del state  # it is large
        self.keeper.protect(name)
        result: Evaluation = yield from self._answer(final, "evaluator", "evaluate", weights, episodes)
        best = self.keeper.evaluated(name, result, final)
        self.scored(self.keeper.scores(result))
        if best and s.config.evaluation.video:
            self.keeper.film(name, (yield s.ask("evaluator", "record", weights)))

    def _answer(self, insist: bool, *question: Any) -> Generator[Call, Any, Any]:
        """What a component answers; where it dies, its next life is asked if we `insist`."""
        while True:
            try:
                return (yield self.system.ask(*question))
            except NoAnswer:
                if not insist:
                    raise
