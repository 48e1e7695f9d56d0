"""Checkpoints, and evaluations and videos of them, beside training."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

from distdqn.runtime.calls import Call, Task
from distdqn.runtime.engine import NoAnswer, StoreFull
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.shards import Shards
from distdqn.runtime.system import System
from distdqn.types import Evaluation, State, Weights

PLAYING = ("begin", "proceed", "record")
SLICE_SECONDS = 5.0
MOST_TRIES = 3
"""What is done at the end of a run is tried so often."""


class Saving:
    """Owns the evaluator and the clocks of saving and evaluating. What is evaluated is a checkpoint that has been
    saved, so that the best one can be kept. `scored`: called with the metrics of an evaluation."""

    METHODS = ("state", *PLAYING)

    def __init__(
        self, system: System, shards: Shards, keeper: Keeper, scored: Callable[[dict[str, float]], None]
    ) -> None:
        self.system, self.shards, self.keeper, self.scored = system, shards, keeper, scored
        self._written: deque[tuple[Future[str | None], Callable[[str | None], None]]] = deque()
        """Checkpoints that are being written, and what follows."""
        self._evaluations = 0
        """So many have begun. The evaluator plays for the last of them alone."""
        now, config = system.wall.monotonic(), system.config
        self._next_save = now + config.checkpoint.every_seconds
        self._next_evaluation = now + (config.evaluation.every_seconds or float("inf"))
        self.saved = self.evaluated = False
        """Whether the last checkpoint was saved, and evaluated where that was asked for."""
        system.starts("evaluator", self.start_evaluator)

    def start_evaluator(self, index: int = 0) -> None:
        """Starts the evaluator."""
        self.system.started(self.system.roster.evaluator())

    def save_first(self) -> None:
        """A run can be resumed from its first second on."""
        s, learner = self.system, self.system.handles["learner"]
        state = s.first_answer(learner, s.engine.call(learner, "state")[0])
        self.keeper.save(state, self.counters(), 0).result()

    def counters(self) -> State:
        """What a checkpoint holds besides the learner."""
        left = {"save_s": self._next_save - self.system.wall.monotonic()}
        if self.system.config.evaluation.every_seconds is not None:
            left["evaluation_s"] = self._next_evaluation - self.system.wall.monotonic()
        s = self.system
        of_all = {"progress": s.progress.state(), "limiter": s.limiter.state(), "replay": self.shards.state()}
        return {**of_all, "left": left}

    def restore(self, counters: State) -> None:
        """The clocks go on where they were, so that a run that is stopped every few minutes is evaluated, too."""
        left, now = counters["left"], self.system.wall.monotonic()
        self._next_save = min(self._next_save, now + left["save_s"])
        self._next_evaluation = min(self._next_evaluation, now + left.get("evaluation_s", float("inf")))

    @property
    def saving(self) -> bool:
        """True while the learner is asked for its state, or that is being written."""
        return bool(self._written or self.system.calls.of("state"))

    @property
    def busy(self) -> bool:
        """True while something is being saved, evaluated or recorded."""
        return self.saving or self.keeper.busy or any(self.system.calls.of(method) for method in self.METHODS)

    def ask(self) -> None:
        """Saves when it is time, and evaluates when that is due and the evaluator is free."""
        self.go_on()
        now, config = self.system.wall.monotonic(), self.system.config
        free = "evaluator" not in self.system.handles or self.system.joined("evaluator")
        evaluate = now >= self._next_evaluation and free and not self.playing
        if (evaluate or now >= self._next_save) and not self.saving:
            self._next_save = now + config.checkpoint.every_seconds
            if evaluate:
                self._next_evaluation = now + (config.evaluation.every_seconds or float("inf"))
            self.save(evaluate)

    @property
    def playing(self) -> bool:
        """True while the evaluator plays."""
        return any(self.system.calls.of(method) for method in PLAYING)

    def save(self, evaluate: bool, final: bool = False) -> None:
        """Asks the learner for its state, to be saved and, if `evaluate`, evaluated."""
        before, self.saved, self.evaluated = self.saved, False, False
        self.system.begin(self._checkpoint(evaluate, final, before))

    def go_on(self) -> None:
        """Goes on with what has been written."""
        while self._written and self._written[0][0].done():
            future, follows = self._written.popleft()
            follows(future.result())

    def _checkpoint(self, evaluate: bool, final: bool, before: bool) -> Task:
        """The life of a checkpoint: it is saved and, if that is asked for, evaluated."""
        s, tries = self.system, MOST_TRIES if final else 1
        state: State = yield from self._answer(tries, self._state)
        self.shards.cut(before)
        written = self.keeper.save(state, self.counters(), s.progress.count["learner_updates"])
        if s.lockstep:
            written.exception()
        weights = Weights(int(state["updates"]), state["online"])
        episodes = s.config.evaluation.final_episodes if final else s.config.evaluation.episodes

        def follows(name: str | None) -> None:
            self.saved = name is not None
            if evaluate and episodes and name is not None:
                s.begin(self._evaluation(name, weights, episodes, final))
            else:
                self.evaluated = self.saved

        self._written.append((written, follows))

    def _evaluation(self, name: str, weights: Weights, episodes: int, final: bool) -> Task:
        """The life of an evaluation: the checkpoint plays and, where it is the best so far, is filmed."""
        s, tries = self.system, MOST_TRIES if final else 1
        try:
            there = s.engine.put(weights)
        except StoreFull as error:
            s.event(f"{name} is not evaluated, the object store is full: {error}")
            return
        del weights  # they are large
        self.keeper.protect(name)
        self._evaluations += 1
        number = self._evaluations
        result: Evaluation | None = yield from self._answer(tries, lambda: self._evaluate(there, episodes, number))
        if result is None:
            return
        best = self.keeper.evaluated(name, result, final)
        self.evaluated = True
        self.scored(self.keeper.scores(result))
        if best and s.config.evaluation.video:
            self.keeper.film(name, (yield s.ask("evaluator", "record", there)))

    def _state(self) -> Generator[Call, Any, Any]:
        return (yield self.system.ask("learner", "state"))

    def _evaluate(self, weights: Any, episodes: int, number: int) -> Generator[Call, Any, Any]:
        """An evaluation in slices, so that an evaluator that is silent is told from one that plays a long game. None
        where a later one, that of the end, has taken the place of this, its `number`."""
        if number != self._evaluations:
            return None
        if "evaluator" not in self.system.handles:
            self.start_evaluator()
        yield self.system.ask("evaluator", "begin", weights, episodes)
        result = None
        while result is None and number == self._evaluations:
            result = yield self.system.ask("evaluator", "proceed", SLICE_SECONDS)
        return result

    def _answer(self, tries: int, question: Callable[[], Generator[Call, Any, Any]]) -> Generator[Call, Any, Any]:
        """What `question` gives; where a component dies over it, its next life is asked, `tries` of them in all."""
        for left in reversed(range(tries)):
            try:
                return (yield from question())
            except NoAnswer:
                if not left:
                    raise
        raise AssertionError(tries)
