"""What the default audit of the reference model takes, asked anew: no stored answer, threads as OMP_NUM_THREADS says.

    python benchmarks/default_audit.py [--machine WORDS]      # needs `alignmerge models pull` once

Runs `alignmerge audit reference:smollm2-135m` in a process of its own with an empty store, and keeps seconds by the
clock, processor seconds, peak memory and how many items of each suite were asked.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alignmerge import jsonio
from alignmerge.cache import cache_dir

RESULTS = Path(__file__).parent / "results" / "default_audit.json"
MODEL = "reference:smollm2-135m"
RUN = "from alignmerge.cli import main; main()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cache, out = Path(name) / "cache", Path(name) / "audit"
        shutil.copytree(cache_dir() / "reference", cache / "reference")
        start = time.perf_counter()
        command = [sys.executable, "-c", RUN, "audit", MODEL, "-o", str(out)]
        subprocess.run(
            command, check=True, env={**os.environ, "ALIGNMERGE_CACHE": str(cache)}, stdout=subprocess.DEVNULL
        )
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        record = json.loads((out / "audit.json").read_text())
    found = {
        "model": MODEL,
        "items": {suite["name"]: suite["items"] for suite in record["suites"]},
        "wall_seconds": round(wall, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        "threads": os.environ.get("OMP_NUM_THREADS", "all cores"),
        "engine": record["engine"],
        "machine": chosen.machine,
    }
    jsonio.write(chosen.output, found)
    print(jsonio.canonical({key: part for key, part in found.items() if key != "engine"}).decode())


if __name__ == "__main__":
    main()
