"""Checkpoints, and evaluations and videos of them, beside training."""

from __future__ import annotations

import time
from collections.abc import Callable

from distdqn.runtime.calls import Call
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.system import System
from distdqn.types import Evaluation, Recording, State, Weights


class Saving:
    """Owns the evaluator and the clocks of saving and evaluating.

    What is evaluated is a checkpoint that has been saved, so that the best one can be kept.

    Args:
        scored: called with the metrics of an evaluation.
    """

    KINDS = ("state", "evaluate", "record")

    def __init__(self, system: System, keeper: Keeper, scored: Callable[[dict[str, float]], None]) -> None:
        self.system, self.keeper, self.scored = system, keeper, scored
        now, config = time.monotonic(), system.config
        self._next_save = now + config.checkpoint.every_seconds
        self._next_evaluation = now + (config.evaluation.every_seconds or float("inf"))
        system.starts("evaluator", self.start_evaluator)
        system.on("state", self._did_state, self._lost_state)
        system.on("evaluate", self._did_evaluate, self._lost_evaluate)
        system.on("record", self._did_record)

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
        return self.keeper.busy or any(self.system.calls.of(kind) for kind in self.KINDS)

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
        self.system.ask("state", "learner", "state", context=(evaluate, final))

    def _did_state(self, call: Call, state: State) -> None:
        evaluate, final = call.context
        s = self.system
        name = self.keeper.save(state, self.counters(), s.progress.count["learner_updates"])
        episodes = s.config.evaluation.final_episodes if final else s.config.evaluation.episodes
        if evaluate and episodes and name is not None:
            weights = s.engine.put(Weights(int(state["updates"]), state["online"]))
            self.keeper.protect(name)
            s.ask("evaluate", "evaluator", "evaluate", weights, episodes, context=(name, weights, episodes, final))

    def _lost_state(self, call: Call) -> None:
        evaluate, final = call.context
        if final:
            self.save(evaluate, final)

    def _did_evaluate(self, call: Call, result: Evaluation) -> None:
        name, weights, _, final = call.context
        best = self.keeper.evaluated(name, result, final)
        self.scored(self.keeper.scores(result))
        if best and self.system.config.evaluation.video:
            self.system.ask("record", "evaluator", "record", weights, context=name)

    def _lost_evaluate(self, call: Call) -> None:
        _, weights, episodes, final = call.context
        if final:
            self.system.ask("evaluate", "evaluator", "evaluate", weights, episodes, context=call.context)

    def _did_record(self, call: Call, recording: Recording) -> None:
        self.keeper.film(call.context, recording)
