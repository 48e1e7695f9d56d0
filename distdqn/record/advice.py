"""What to change in a run that wastes what it has: read off its metrics, with the keys that would change it."""

import math
from collections.abc import Mapping

from distdqn.config import RunConfig
from distdqn.record.machines import by_machine, nearly_full

WAITS = 0.25
"""Share of its time from which on somebody waits too much."""
PINNED, BUSY = 0.9, 0.9
"""Share of a core from which on the driver holds others up, and of all cores from which on there are none to spare."""
STALE = 500
"""Updates that weights may be old, whatever the target network's age."""


def advice(config: RunConfig, last: Mapping[str, float]) -> list[str]:
    """What is wrong and which key to change, the most urgent first; empty where all is well, and before learning has
    gone on for some seconds.

    Args:
        last: the last value of each metric. Waiting is judged by `run/actors_idle` and `run/learner_idle`.
    """
    if not last.get("learner_updates") or "run/learner_idle" not in last:
        return []
    found = _store(config, last) + _memory(last)
    if config.engine.kind == "local" or config.engine.lockstep:
        return found  # there each waits for the other, always
    return found + _waiting(config, last) + _stale(config, last)


def _store(config: RunConfig, last: Mapping[str, float]) -> list[str]:
    times, learner, actors = last.get("run/store_full", 0), config.learner, config.actors
    full = [(host, share) for host, name, share in nearly_full(last) if name == "shared_memory"]
    if not times and not full:
        return []
    what = f"the object store was full {times:g} times in the last minute" if times else ""
    what = what or f"{full[0][0]}'s shared memory is {full[0][1]:.0%} full"
    sizes = {"learner.updates_per_call": learner.updates_per_call, "learner.in_flight": learner.in_flight}
    sizes |= {"actors.in_flight": actors.in_flight}
    keys = [f"{key}={value // 2}" for key, value in sizes.items() if value > 1]
    if config.engine.address is not None or not keys:
        keys.append("more of it (`ray start --object-store-memory`, /dev/shm)")
    return [f"{what}: {', or '.join(keys)}"]


def _memory(last: Mapping[str, float]) -> list[str]:
    full = [(host, share) for host, name, share in nearly_full(last) if name == "memory"]
    if not full:
        return []
    replay = last.get("replay/rss_bytes", 0.0) / 2**30
    takes = f", of which the replay takes {replay:.1f} GiB in all" if replay else ""
    host, share = full[0]
    return [f"{host}'s memory is {share:.0%} full{takes}: a smaller replay.capacity or fewer actors.envs_per_actor"]


def _waiting(config: RunConfig, last: Mapping[str, float]) -> list[str]:
    actors, learner = last.get("run/actors_idle", 0.0), last["run/learner_idle"]
    if max(actors, learner) < WAITS:
        return []
    count, c = config.actors.places, config
    driver = last.get("run/driver_cpu", 0.0)
    if driver >= PINNED and min(actors, learner) >= 1 - PINNED:
        steps, updates = 2 * c.actors.rollout_steps, 2 * c.learner.updates_per_call
        longer = f"actors.rollout_steps={steps} and learner.updates_per_call={updates} halve its calls"
        return [f"the driver takes {driver:.0%} of a core, and others wait for it: {longer}"]
    if min(actors, learner) >= WAITS:
        both = f"actors and learner both wait, {actors:.0%} and {learner:.0%} of their time"
        more = f"actors.in_flight={c.actors.in_flight + 1} and learner.in_flight={c.learner.in_flight + 1}"
        return [f"{both}: {more} would have more on its way"]
    # With the ratio r, actors that never wait would insert 1 / (1 - actors) times as much, and a learner that never
    # waits would sample 1 / (1 - learner) times as much: both are busy at this ratio, or with so many actors.
    busy = (1 - actors) / max(1 - learner, 0.01)
    enough, balanced = math.ceil(count * busy), float(f"{c.learner.samples_per_insert * busy:.2g}")
    ratio = f"learner.samples_per_insert={balanced:g}"
    if learner > actors:
        further = max(1, enough - count)
        cpus = [figures["cpu"] for figures in by_machine(last).values() if "cpu" in figures]
        cpu = sum(cpus) / max(1, len(cpus))
        where = f" on further cores (these are {cpu:.0%} busy)" if cpu >= BUSY else ""
        actor = "actor" if further == 1 else "actors"
        return [f"the learner waits {learner:.0%} of its time: about {further} more {actor}{where}, or {ratio}"]
    fewer = f", or actors.count={enough} is enough" if enough < count else ""
    return [f"the actors wait {actors:.0%} of their time for the learner: {ratio} would keep them busy{fewer}"]


def _stale(config: RunConfig, last: Mapping[str, float]) -> list[str]:
    learner, actors, target = config.learner, config.actors, config.learner.target
    lag = last.get("actor/weights_lag", 0.0)
    limit = max(STALE, target.period if target.kind == "period" else 1 / target.tau)
    if lag <= limit:
        return []
    rate = last.get("learner/updates_per_s", 0.0)
    if learner.publish_seconds * rate > limit / 4:
        remedy = f"learner.publish_seconds={limit / 4 / rate:.2g}"
    elif learner.publish_period > limit / 4:
        remedy = f"learner.publish_period={int(limit / 4)}"
    elif actors.in_flight > 1:
        remedy = "actors.in_flight=1"
    else:
        remedy = f"actors.rollout_steps={max(1, actors.rollout_steps // 2)}, or fewer actors.envs_per_actor"
    return [f"the actors' weights are {lag:.0f} updates old, older than the target network: {remedy}"]
