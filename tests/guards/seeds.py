"""`python -m tests.guards.seeds COUNT`: seeds of the simulation until one breaks the promise, and which; then 1."""

import sys

from tests.simulation.seeds import run


def main() -> int:
    for seed in range(int(sys.argv[1])):
        if broken := run(seed):
            print(f"seed {seed} - {broken.text}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
