"""`python -m distdqn.launch.wait ADDRESS N SECONDS [COMMAND...]`: until N machines have joined the cluster at ADDRESS,
HOST:PORT or auto, and then COMMAND in the place of this process; exit code 1 where they do not."""

import os
import sys
import time


def main(address: str, number: str, seconds: str, *command: str) -> int:
    """Waits; gives the exit code."""
    from distdqn.runtime.ray import machines

    end = time.monotonic() + float(seconds)
    there = 0
    while time.monotonic() < end:
        there = machines(address)
        if there >= int(number):
            if command:
                os.execvp(command[0], command)
            return 0
        time.sleep(1)
    print(f"{there} of {number} machines have joined {address} within {seconds} s", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
