"""The throughput that the stages' costs imply for the whole system: arithmetic alone.

In the steady state the limiter holds `ratio` samples for each agent step (`learner.samples_per_insert`; the few
autoreset dummies, which are steps without a transition, are left out). With wall seconds w and CPU seconds c of one
unit of each stage (an agent step, a transition added, a window sampled, a priority updated, a window learned from) and
the CPU seconds m of carrying a transition or a sampled window through the engine, agent steps/s cannot exceed any of

    actors    count / w_act                                     each actor plays one rollout at a time
    shards    count / (w_add + ratio (w_sample + w_priority))   each shard answers one call at a time
    learner   1 / (ratio w_learn)                               one learner
    cores     cores / (c_act + c_add + m_step
                       + ratio (c_sample + c_priority + c_learn + m_sample))

because all CPU seconds that a step brings about must fit into the `cores` that there are. With a GPU, c_learn are
those of feeding it and of waiting for it. In one process (engine=local) everything happens one after the other instead:

    serial    1 / (w_act + w_add + ratio (w_sample + w_priority + w_learn))

A stage of one thread is never busy for longer than its CPU seconds; what the clock shows beyond them is other load
on the machine. So w is the CPU time there where it is less, which can only raise the limit.

The limit is the smallest, and the stage that gives it *binds*. It assumes that a stage costs no more beside the
others than alone, that no core ever waits, and that nothing but the stages runs: what is lost to caches shared,
to waiting and to the coordinator is the distance between the limit and what is reached.
"""

from dataclasses import dataclass

from distdqn.bench.measure import Cost

FREE = Cost(0.0, 0.0)


def undisturbed(cost: Cost, threads: int = 1) -> Cost:
    """The cost of a stage of so many threads with its wall seconds freed of other load, as far as is known."""
    return Cost(min(cost.wall, cost.cpu), cost.cpu) if threads == 1 else cost


@dataclass(frozen=True)
class Costs:
    """Cost of each stage's unit: `act` an agent step; `add` and `carry_step` a transition; `sample`, `priority`,
    `learn` and `carry_sample` a sampled window."""

    act: Cost
    add: Cost
    sample: Cost
    priority: Cost
    learn: Cost
    carry_step: Cost = FREE
    carry_sample: Cost = FREE


@dataclass(frozen=True)
class Shape:
    """What of a config and a machine decides the limit. `ratio` is in samples for each agent step; `serial`: all in one
    process."""

    cores: int
    actors: int
    shards: int
    ratio: float
    serial: bool = False


@dataclass(frozen=True)
class Limit:
    """`bounds`: agent steps/s that each resource allows."""

    bounds: dict[str, float]

    @property
    def binding(self) -> str:
        """The resource that allows least."""
        return min(self.bounds, key=lambda name: self.bounds[name])

    @property
    def steps_per_s(self) -> float:
        """Agent steps/s of the whole system at most."""
        return min(self.bounds.values())


def limit(costs: Costs, shape: Shape) -> Limit:
    """The bounds of this page's arithmetic."""
    k, ratio = costs, shape.ratio
    if shape.serial:
        wall = k.act.wall + k.add.wall + ratio * (k.sample.wall + k.priority.wall + k.learn.wall)
        return Limit({"serial": 1 / wall})
    return Limit(
        {
            "actors": shape.actors / k.act.wall,
            "shards": shape.shards / (k.add.wall + ratio * (k.sample.wall + k.priority.wall)),
            "learner": 1 / (ratio * k.learn.wall),
            "cores": shape.cores / sum(cpu_of_a_step(costs, shape).values()),
        }
    )


def cpu_of_a_step(costs: Costs, shape: Shape) -> dict[str, float]:
    """CPU seconds that an agent step brings about, by kind of component; `carrying` is spent in all, the engine's
    too."""
    k, ratio = costs, shape.ratio
    return {
        "actor": k.act.cpu,
        "shard": k.add.cpu + ratio * (k.sample.cpu + k.priority.cpu),
        "learner": ratio * k.learn.cpu,
        "carrying": k.carry_step.cpu + ratio * k.carry_sample.cpu,
    }
