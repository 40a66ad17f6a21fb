"""``passerby run`` as its own process, with what it cost: prints one JSON object."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from pipeline.config import load_config
from pipeline.services.run import RunOptions, run


def main() -> None:
    """``python -m benchmarks.measured_run passerby.yaml DIR``."""
    config = load_config(Path(sys.argv[1]))
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    result = run(config, RunOptions(Path(sys.argv[2]), live_view=False))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "program": "passerby",
                "exit_code": result.exit_code,
                "wall_s": time.perf_counter() - began,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "imports_cpu_s": before.ru_utime + before.ru_stime,
                "rss_mb": usage.ru_maxrss / 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
