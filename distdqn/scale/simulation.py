"""One system in virtual time: the real coordinator against components that are pretended."""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from distdqn.config import BudgetConfig, RunConfig
from distdqn.run_folder import RunFolder
from distdqn.runtime.coordinator import Coordinator
from distdqn.runtime.keeper import Keeper
from distdqn.runtime.roster import Roster
from distdqn.runtime.simulated import Machines, SimulatedEngine
from distdqn.runtime.timeline import Timeline
from distdqn.scale.outcome import Outcome
from distdqn.scale.pretended import Costs, pretend
from distdqn.types import EnvSpec

NEVER = 1e9
SETTLED = 3
"""What the transitions stored have earned, in bounds of the limiter, once its balance has come to where it stays."""
WARM_UP = 2
"""Times that an actor plays all that it may have in flight, after that and before what is measured."""
MEASURED = 4
"""The same, measured at the least."""


def at_nodes(config: RunConfig, nodes: int) -> RunConfig:
    """`config`, which says what one node brings, of so many nodes. There is one learner, and of the whole system are
    `replay.capacity` and `replay.min_size`."""
    replay = replace(
        config.replay,
        shards=config.replay.shards * nodes,
        capacity=max(config.replay.capacity, 2 * config.actors.rollout_steps * config.replay.shards * nodes),
    )
    return replace(
        config,
        actors=replace(config.actors, count=config.actors.places * nodes),
        replay=replace(replay, journal=False),
        budget=BudgetConfig(env_frames=None, seconds=NEVER),
        evaluation=replace(config.evaluation, every_seconds=None, video=False),
        checkpoint=replace(config.checkpoint, every_seconds=NEVER),
    )


def simulate(
    config: RunConfig,
    spec: EnvSpec,
    costs: Costs,
    machines: Machines,
    seconds: float,
    gpu: bool,
    cpu: Callable[[], float] = time.thread_time,
) -> Outcome:
    """The steady state of `config` on `machines`, over `seconds` of their time or eight rollouts."""
    with ExitStack() as stack:
        run_dir = str(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="distdqn-scale-"))) / "run")
        config, folder = replace(config, run_dir=run_dir), stack.enter_context(RunFolder.create(run_dir, ""))

        def place(name: str) -> int:
            return int(name.partition("-")[2] or 0) % machines.nodes

        timeline = Timeline(cpu)
        engine = SimulatedEngine(
            timeline, machines, lambda name: pretend(name, config, costs, spec.frame_skip, gpu), place
        )
        keeper = Keeper(folder, config, spec, dict, lambda _: None)
        roster = Roster(config, spec, engine, 0, 0, 0.0)
        coordinator = Coordinator(config, engine, roster, keeper, lambda _: None, lambda _: None, timeline)
        s = coordinator.system

        def run_for(seconds: float) -> None:
            def stop(when: float) -> None:
                coordinator.stop = True

            coordinator.stop = False
            timeline.at(timeline.now + seconds, stop)
            coordinator.run()

        rollout = config.actors.rollout_steps * config.actors.envs_per_actor * costs.step * s.rollouts_ahead
        coordinator.start()
        limiter = s.limiter
        while limiter.ratio * (limiter.inserted - limiter.filled) < SETTLED * limiter.bound:
            run_for(rollout)
        run_for(WARM_UP * rollout)
        before, count, busy, asked = timeline.now, dict(s.progress.count), timeline.busy, engine.messages
        own = {name: c.busy for name, c in engine.components.items()}
        cards = [(n.in_busy, n.out_busy, n.core_seconds) for n in engine.nodes]
        s.progress.metrics(0.0)  # means begin anew
        run_for(max(seconds, MEASURED * rollout))
        passed = timeline.now - before
        keeper.close()
        mean: dict[str, list[float]] = {"actors": [], "shards": [], "learner": []}
        for name, component in engine.components.items():
            if (kind := f"{name.partition('-')[0]}s".replace("learners", "learner")) in mean:
                mean[kind].append((component.busy - own[name]) / passed)
        parts = {kind: sum(values) / len(values) for kind, values in mean.items()}
        sent = [
            (node.in_busy - i, node.out_busy - o, node.core_seconds - c)
            for node, (i, o, c) in zip(engine.nodes, cards, strict=True)
        ]
        parts["network"] = max(max(i, o) for i, o, _ in sent) / passed
        if machines.cores is not None:
            parts["cores"] = max(c for *_, c in sent) / passed / machines.cores
        parts["coordinator"] = (timeline.busy - busy) / passed
        gained = {name: (s.progress.count[name] - n) / passed for name, n in count.items()}
        messages = engine.messages - asked
        return Outcome(
            nodes=machines.nodes,
            actors=config.actors.places,
            shards=config.replay.shards,
            frames_per_s=gained["env_frames"],
            steps_per_s=gained["env_steps"],
            samples_per_s=gained["samples"],
            updates_per_s=gained["learner_updates"],
            lag=s.progress.metrics(0.0).get("actor/weights_lag", 0.0),
            network=sum(i for i, *_ in sent) / passed * machines.bandwidth,
            busy=parts,
            message=(timeline.busy - busy) / max(1, messages),
            messages=messages / passed,
        )
