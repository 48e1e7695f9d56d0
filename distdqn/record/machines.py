"""The machines of a run in the records: `node/HOST/NAME`."""

from collections.abc import Mapping

_FULL = {"memory": 0.9, "shared_memory": 0.9, "gpu_memory": 0.97}
"""Shares in use from which on something is nearly full."""
_MOST_SHOWN = 3


def latest(last: Mapping[str, float], metrics: Mapping[str, float]) -> dict[str, float]:
    """`last` with a record's `metrics` in it. A record that tells of machines tells of all: those it lacks are gone."""
    of_machines = any(name.startswith("node/") for name in metrics)
    kept = {k: v for k, v in last.items() if not k.startswith("node/")} if of_machines else last
    return {**kept, **metrics}


def by_machine(last: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The figures of each machine, by its name and theirs."""
    found: dict[str, dict[str, float]] = {}
    for name, value in last.items():
        if name.startswith("node/"):
            host, _, figure = name.removeprefix("node/").rpartition("/")
            found.setdefault(host, {})[figure] = value
    return found


def nearly_full(last: Mapping[str, float]) -> list[tuple[str, str, float]]:
    """Who is nearly full: machine, of what, and the share in use; the fullest first."""
    full = [
        (host, name, figures[name])
        for host, figures in by_machine(last).items()
        for name, limit in _FULL.items()
        if figures.get(name, 0.0) >= limit
    ]
    return sorted(full, key=lambda found: -found[2])


def machines(last: Mapping[str, float]) -> str:
    """All machines in a phrase where there is more than one, and what is nearly full; empty where there is nothing to
    say."""
    found, parts = by_machine(last), list[str]()
    if len(found) > 1:
        parts.append(f"{len(found)} machines")
        for name, text in (("cpu", "CPU"), ("memory", "memory"), ("gpu", "GPU")):
            if values := sorted(figures[name] for figures in found.values() if name in figures):
                low, high = (f"{value:.0%}" for value in (values[0], values[-1]))
                parts.append(f"{text} {low}" + (f" to {high}" if high != low else ""))
        if any("received" in figures for figures in found.values()):
            parts.append(f"{sum(figures.get('received', 0.0) for figures in found.values()) / 1e6:.3g} MB/s received")
    full = nearly_full(last)
    parts += [f"{host}'s {name.replace('_', ' ')} is {share:.0%} full" for host, name, share in full[:_MOST_SHOWN]]
    if len(full) > _MOST_SHOWN:
        parts.append(f"{len(full) - _MOST_SHOWN} more nearly full")
    return ", ".join(parts)
