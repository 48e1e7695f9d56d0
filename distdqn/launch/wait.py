"""`python -m distdqn.launch.wait HOST:PORT N SECONDS`: until N machines have joined; exit code 1 where they do not."""

import sys
import time


def main(address: str, number: str, seconds: str) -> int:
    """Waits; gives the exit code."""
    from distdqn.runtime.ray import machines

    end = time.monotonic() + float(seconds)
    there = 0
    while time.monotonic() < end:
        there = machines(address)
        if there >= int(number):
            return 0
        time.sleep(1)
    print(f"{there} of {number} machines have joined {address} within {seconds} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
