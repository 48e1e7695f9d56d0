"""`python software.py [SAID]`: says which Python and Ray this machine has. With SAID, which is what another one said,
one line that names this machine where they differ, and exit code 2: Ray would keep it out and say so in a log alone. It
may be run by a Python that has nothing else, not even distdqn."""

from __future__ import annotations

import json
import os
import platform
import socket
import sys


def main(said: str = "") -> int:
    """Gives the exit code."""
    mine = {"host": socket.gethostname(), "Python": platform.python_version(), "Ray": _ray()}
    if not said:
        print(json.dumps(mine))
        return 0
    theirs = json.loads(said)
    for name in ("Python", "Ray"):
        if _compared(name, mine[name]) != _compared(name, theirs[name]):
            has = f"has {name} {mine[name]}" if mine[name] else f"has no {name}"
            print(f"distdqn: {mine['host']} {has}, {theirs['host']} has {theirs[name]}", file=sys.stderr)
            return 2
    return 0


def _ray() -> str:
    try:
        from importlib.metadata import version

        return version("ray")
    except ImportError:  # also where there is none
        return ""


def _compared(name: str, version: str) -> list[str]:
    """What Ray compares of it."""
    minor = name == "Python" and os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL") == "minor"
    return version.split(".")[:2] if minor else [version]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
