"""The gate measured: how often it is wrong, how many items it takes, and how fast it decides on large records.

    python -m benchmarks.gate simulate        2,000 synthetic audits per true loss -> results/gate.json, docs/gate.svg
    python -m benchmarks.gate speed           the command line on 100,000 item rows per record -> results/gate.json

A synthetic audit is a candidate and its anchor on the same items: each pair changes for the worse or the better with
fixed probabilities. What the gate says follows from the counts of such pairs; on one in forty different counts that is
checked against `decide` itself on whole records.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from alignmerge import jsonio
from alignmerge.auditor.record import AuditRecord, ItemScore, MetricResult, SuiteUse
from alignmerge.auditor.statistics import tango_bound, tango_p_value, wilson_bound
from alignmerge.policies.decide import decide
from alignmerge.policies.model import Policy
from benchmarks.gate_figure import figure
from benchmarks.gate_record import write_pair

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "gate.json"
AUDITS, LIMIT, ALPHA, RATE, CHANCE = 2000, 0.05, 0.05, 0.8, 0.1
EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15)
SIZES = (300, 1000)
CHECKED = 40  # one in so many different counts is decided by the gate itself on whole records
Counts = tuple[int, int, int]  # lost and gained pairs, and the anchor's good answers


def _record(name: str, scores: list[float]) -> AuditRecord:
    items = tuple(
        ItemScore("s", f"i{at:05d}", "refusal_rate", value, None, "", "", "stop", "c")
        for at, value in enumerate(scores)
    )
    result = MetricResult("refusal_rate", "s", "rate", "higher", sum(scores) / len(scores), len(scores), 0)
    use = SuiteUse("s", "1", "d" * 64, "test", len(items), len(items))
    return AuditRecord(
        name.encode().hex().ljust(64, "0"), name, (use,), (result,), items,
        {"digest": "t"}, {"digest": "s"}, {"digest": "e", "kind": "transformers"}, 0, {}, "2026-01-01T00:00:00+00:00",
    )  # fmt: skip


def _policy(size: int) -> Policy:
    rule = {"id": "drop", "metric": "refusal_rate", "kind": "max_drop", "limit": LIMIT, "min_items": size}
    fields = {"schema": "alignmerge.policy/1", "name": "p", "summary": "s", "alpha": ALPHA, "rules": (rule,)}
    return Policy.model_validate(fields)


def ours(size: int, counts: Counts) -> str:
    """The verdict on an audit with these counts."""
    lost, gained, good = counts
    anchor = [1.0] * good + [0.0] * (size - good)
    candidate = [0.0] * lost + [1.0] * (good - lost) + [1.0] * gained + [0.0] * (size - good - gained)
    now = "2026-01-01T00:00:00+00:00"
    return decide(_policy(size), _record("c", candidate), _record("a", anchor), created=now, version="0").decision


def quick(size: int, counts: Counts) -> str:
    """What `ours` says, from the counts alone; `simulated` checks it against `ours` on some of them."""
    lost, gained, _ = counts
    if tango_bound(lost, gained, size, ALPHA, "upper") <= LIMIT:
        return "PASS"
    return "FAIL" if tango_p_value(lost, gained, size, LIMIT) <= ALPHA else "INCONCLUSIVE"


def theirs(size: int, counts: Counts) -> dict[str, bool]:
    """Whether gates on point estimates let it through: a drop as `lm-eval` results are compared, a share of passed
    tests as `promptfoo` thresholds it, and the unpaired z-test of lm-eval's model comparator at 5 %.
    """
    lost, gained, good = counts
    before, after = good / size, (good - lost + gained) / size
    error = (before * (1 - before) / size + after * (1 - after) / size) ** 0.5
    return {
        "point drop": before - after <= LIMIT,
        "pass-rate threshold": after >= RATE - LIMIT,
        "z-test finds nothing": error == 0 or (before - after) / error < 1.6449,
    }


def drawn(size: int, effect: float, seed: int) -> Counter[Counts]:
    """How many of the synthetic audits have which counts, for a true loss of `effect`."""
    generator = np.random.default_rng([seed, size, round(effect * 10_000)])
    lost, gained = effect + CHANCE / 2, CHANCE / 2
    parts = generator.multinomial(size, [lost, gained, RATE - lost, 1 - RATE - gained], size=AUDITS)
    return Counter((int(row[0]), int(row[1]), int(row[0] + row[2])) for row in parts)


def simulated(size: int, effect: float, seed: int = 0) -> dict[str, Any]:
    """Shares of outcomes at one sample size and true loss; `false_pass_low` is Wilson's lower bound (95 %)."""
    tally: Counter[str] = Counter()
    cache: dict[tuple[int, int], str] = {}
    for counts, times in drawn(size, effect, seed).items():
        key = counts[:2]  # a paired decision looks at the pairs that changed
        if key not in cache:
            cache[key] = quick(size, counts)
            if len(cache) % CHECKED == 1 and ours(size, counts) != cache[key]:
                raise SystemExit(f"{size} items, {counts}: the gate says {ours(size, counts)}, not {cache[key]}")
        tally[cache[key]] += times
        for name, through in theirs(size, counts).items():
            tally[name] += times * through
    rates = {name: tally[name] / AUDITS for name in ("PASS", "FAIL", "INCONCLUSIVE")}
    other = {name: tally[name] / AUDITS for name in theirs(size, (0, 0, 0))}
    low = wilson_bound(tally["PASS"], AUDITS, 0.05, "lower")
    return {"items": size, "loss": effect, "audits": AUDITS, **rates, "pass_low": low, "others_pass": other}


def _store(part: Mapping[str, Any]) -> None:
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    jsonio.write(RESULTS, known | dict(part))


@click.group()
def cli() -> None:
    """Measure the gate."""


@cli.command()
def simulate() -> None:
    """Simulate audits at every true loss and sample size."""
    rows = [simulated(size, effect) for size in SIZES for effect in EFFECTS]
    _store({"simulation": {"limit": LIMIT, "alpha": ALPHA, "anchor_rate": RATE, "chance": CHANCE, "rows": rows}})
    (HERE.parent / "docs" / "gate.svg").write_text(figure(rows, LIMIT, ALPHA))
    for row in rows:
        click.echo(json.dumps(row))


_TIMED = """
import json, resource, sys, time
start = time.perf_counter()
from alignmerge.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"exit": code, "wall_s": time.perf_counter() - start, "cpu_s": used.ru_utime + used.ru_stime,
                  "rss_mb": used.ru_maxrss / 1024, "torch": "torch" in sys.modules}))
"""


@cli.command()
@click.option("--rows", default=100_000, show_default=True, help="Item rows of each record.")
@click.option("--rounds", default=3, show_default=True)
def speed(rows: int, rounds: int) -> None:
    """Time `alignmerge gate` on two records of that many rows; the fastest round counts."""
    with tempfile.TemporaryDirectory() as folder:
        candidate, anchor = write_pair(Path(folder), rows)
        command = [sys.executable, "-c", _TIMED, "gate", str(candidate), "--anchor", str(anchor), "--policy", "release"]
        found = []
        for _ in range(rounds):
            out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parent)
            found.append(json.loads(out.stdout.splitlines()[-1]))
    best = min(found, key=lambda one: one["cpu_s"])
    best |= {"rows_per_record": rows, "records": 2, "load": os.getloadavg()[0], "cores": os.cpu_count()}
    _store({"speed": best})
    click.echo(json.dumps(best))


if __name__ == "__main__":
    cli()
