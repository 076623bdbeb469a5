"""Run the benchmark: python -m benchmarks.attribution [--fast]"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.attribution.protocol import FAST, FULL, run
from benchmarks.record import write


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a third of the clips and three timesteps")
    setting = FAST if parser.parse_args().fast else FULL
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), setting)
    write("attribution", result.rows, result.goals, **result.more)


if __name__ == "__main__":
    main()
