"""First figures: `make bench`. Absolute numbers are this machine's; the ratios are what to compare."""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from bench import bare, pipeline
from tests.testbed.stack import short_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure vmwatch beside the bare limit.")
    parser.add_argument("--events", type=int, default=100_000, help="events of each drain (default: 100000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each rate is kept (default: 10)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the results here as well")
    options = parser.parse_args()
    results: dict[str, float | int | str] = {"cores": os.cpu_count() or 0}

    folder = short_folder()
    try:
        results["bare_100_per_s"] = bare.measure(folder, 100, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    limit = results["bare_100_per_s"]
    print(f"bare limit, batches of 100:                  {limit:8.0f} events/s", flush=True)
    for workers in (1, 2):
        rate = pipeline.throughput(workers, options.events)
        results[f"outbox_to_ack_{workers}_workers_per_s"] = rate
        print(f"outbox to acknowledgement, {workers} worker{'s' if workers > 1 else ' '}:          {rate:8.0f} events/s"
              f"   {rate / float(limit):5.2f} of the bare limit", flush=True)
    delay = pipeline.latency(100, options.seconds)
    results |= {"latency_median_ms": delay.median_ms, "latency_p99_ms": delay.p99_ms, "latency_most_ms": delay.most_ms}
    print(f"event to commit at 100 events/s ({delay.events} events): median {delay.median_ms:.1f} ms, "
          f"p99 {delay.p99_ms:.1f} ms, longest {delay.most_ms:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
