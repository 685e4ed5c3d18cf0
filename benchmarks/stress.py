"""Whether the gate stops models whose alignment was damaged on purpose, and which metrics notice.

    python benchmarks/stress.py                # as published: every test item
    python benchmarks/stress.py --limit 16     # a look; release.yaml then says INCONCLUSIVE

The anchor is the zoo's safety model; the refusal direction is the mean difference of its states on the calibration
pairs. Everything stays in memory. Three whole audits under release.yaml (the anchor, its ablation, its always-refusing
version), then merges of each damaged model into the anchor at growing weights, on the first RUNG_ITEMS items of the
refusal and over-refusal suites.

Layer and strength were chosen on 24 and 12 validation items of each suite: ablating the direction of layer 13 or 16
(counted from 0) took refusal from 0.92 to 0 and 0.04, that of layer 10 raised over-refusal to 0.96; a push after layer
16 of 4 times the mean difference refused everything, of 8 times less.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.attacks import ablated, always_refusing, blend, difference, with_biases  # noqa: E402
from benchmarks.stress_noticed import NOTICED, changes, noticed, sign_p  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "stress.json"
ANCHOR, BASE, POLICY = "zoo:safety", "reference:smollm2-135m", "release"
LAYER, PUSH = 16, 4.0
CHOSEN_ON = {"layer": 24, "push": 12}  # validation items of each suite; see above
WEIGHTS = (0.1, 0.25, 0.5, 0.75, 1.0)
RUNG_ITEMS = 64
ASKED = ("refusal_rate", "over_refusal_rate")
MACHINE = "2 cores of an AMD EPYC (Zen 5, AVX-512), no GPU"
Say = Callable[[str], None]


class Trial:
    """The anchor and what is asked of models made from it."""

    def __init__(self, limit: int | None, suites: Sequence[str] = (), store: Path | None = None) -> None:
        from alignmerge.merger.checkpoint import open_checkpoint
        from alignmerge.models import load_tokenizer
        from alignmerge.pipeline.audit_plan import AuditPlan
        from alignmerge.pipeline.bench import Bench

        self.checkpoint = open_checkpoint(ANCHOR)
        self.plan = AuditPlan(limit=limit, suites=tuple(suites) or AuditPlan().suites)
        self.bench = Bench(self.plan, store)
        self.tensors = {name: self.checkpoint.read(name) for name in self.checkpoint.tensors}
        self._tokenizer = load_tokenizer(self.checkpoint)
        self._open = open_checkpoint

    def engine(self, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
        """A model of these tensors, ready to answer."""
        from alignmerge.auditor.engines.transformers_engine import TransformersEngine
        from alignmerge.models import build_model

        return TransformersEngine(build_model(config, tensors, self.plan.dtype), self._tokenizer)

    def anchor(self, against_base: bool) -> Any:
        """The anchor's audit, with AQI's validity gate where `against_base`."""
        engine = self.engine(self.checkpoint.config, self.tensors)
        return self.bench.anchor(engine, self.checkpoint, "anchor", self._open(BASE) if against_base else None)

    def direction(self, pairs: int | None = None) -> Any:
        """The mean difference of harmful and harmless states after LAYER on the first `pairs` calibration pairs."""
        from alignmerge.auditor.pairs import pair_states

        engine = self.engine(self.checkpoint.config, self.tensors)
        states = pair_states(engine, self.plan.resolved(), "calibration", pairs)
        return difference(states.unsafe, states.safe, LAYER)

    def damaged(
        self, pairs: int | None = None
    ) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
        """By name: configuration, the anchor's tensors in it, and the damaged model's."""
        found = self.direction(pairs)
        config, plain = with_biases(self.checkpoint.config, self.tensors)
        return {
            "ablated": (self.checkpoint.config, self.tensors, ablated(self.tensors, found)),
            "always_refusing": (config, plain, always_refusing(plain, PUSH * found, LAYER)),
        }

    def audit(self, name: str, config: Mapping[str, Any], tensors: Mapping[str, Any], **changes: Any) -> Any:
        """The audit of these tensors against the anchor's AQI reference; `changes` to the plan."""
        from dataclasses import replace

        from alignmerge import jsonio
        from alignmerge.merger.reference import tensor_digest

        before, self.bench.plan = self.bench.plan, replace(self.plan, **changes)
        try:
            digest = jsonio.digest(["in memory", dict(config).get("mlp_bias", False), tensor_digest(dict(tensors))])
            return self.bench.audit(self.engine(config, tensors), digest, name)
        finally:
            self.bench.plan = before


def decided(policy: str, candidate: Any, anchor: Any) -> dict[str, Any]:
    """The policy's verdict on an audit, as plain data."""
    from alignmerge import __version__
    from alignmerge.policies.decide import decide
    from alignmerge.policies.schema import load_policy

    verdict = decide(load_policy(policy), candidate, anchor, created=candidate.created, version=__version__)
    rows = [
        {
            key: getattr(rule, key)
            for key in ("rule", "metric", "decision", "anchor", "candidate", "value", "bound", "limit", "n", "reason")
        }
        for rule in verdict.rules
    ]
    return {"decision": verdict.decision, "exit_code": verdict.exit_code, "rules": rows}


def values(record: Any) -> dict[str, float | None]:
    """Every metric of an audit that has a value."""
    return {row.metric: row.value for row in record.metrics}


def ladder(trial: Trial, name: str, parts: Any, items: int, say: Say) -> list[dict[str, Any]]:
    """Refusal and over-refusal on the first `items` of the anchor merged with the damaged model at every weight.

    fell, rose: items that changed from the weight before, by metric.
    """
    config, anchor, expert = parts
    least = min(items, trial.plan.limit or items)
    rows: list[dict[str, Any]] = []
    last = None
    for weight in (0.0, *WEIGHTS):
        made = expert if weight == 1.0 else blend(anchor, expert, weight)
        audit = trial.audit(f"{name}-{weight}", config, made, suites=("refusal", "over_refusal"), limit=least)
        found = {metric: audit.result(metric).value for metric in ASKED}
        moved = {metric: changes(last or audit, audit, metric) for metric in ASKED}
        ways = {way: {metric: pair[at] for metric, pair in moved.items()} for at, way in enumerate(("fell", "rose"))}
        rows.append({"weight": weight, "n": audit.result("refusal_rate").scored, **found, **ways})
        last = audit
        say(f"{name} at {weight}: {found}")
    return rows


def monotone(numbers: Sequence[float], falling: bool) -> bool:
    """Whether the numbers never go the other way, and end elsewhere than they began."""
    pairs = list(itertools.pairwise(numbers))
    kept = all(later <= one if falling else later >= one for one, later in pairs)
    return kept and numbers[0] != numbers[-1]


def turns(rows: Sequence[Mapping[str, Any]], falling: bool) -> list[dict[str, Any]]:
    """Steps of a ladder that go the other way, by metric, and the probability of such a step by chance alone."""
    found = []
    for metric in ASKED:
        for before, row in itertools.pairwise(rows):
            wrong, right = (row[way][metric] for way in (("rose", "fell") if falling else ("fell", "rose")))
            if (row[metric] > before[metric]) if falling else (row[metric] < before[metric]):
                found.append({
                    "metric": metric, "from": before["weight"], "to": row["weight"], "wrong": wrong, "right": right,
                    "p": sign_p(wrong, right),
                })  # fmt: skip
    return found


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says besides results: the anchor's layers, the items of the choice, and how sure is sure."""
    from alignmerge.policies.schema import load_policy

    layers = int(config["num_hidden_layers"])
    return {"layers": layers, "chosen_on": CHOSEN_ON, "noticed": NOTICED, "alpha": load_policy(POLICY).alpha}


def measured(limit: int | None, suites: Sequence[str], rungs: int, say: Say) -> dict[str, Any]:
    """Everything, as it is published; `rungs`: see `ladder`."""
    begun = time.process_time()
    trial = Trial(limit, suites)
    anchor = trial.anchor(against_base=True)
    say(f"anchor: {values(anchor)}; AQI valid: {anchor.result('aqi_log_j').valid}")
    damaged = trial.damaged()
    attacks, ladders = {}, {}
    for name, (config, _, expert) in damaged.items():
        whole = trial.audit(name, config, expert)
        attacks[name] = {"metrics": noticed(anchor, whole), **decided(POLICY, whole, anchor)}
        say(f"{name}: {attacks[name]['decision']} {values(whole)}")
    for name, parts in damaged.items():
        ladders[name] = ladder(trial, name, parts, rungs, say)
    falls = {name: name == "ablated" for name in ladders}  # the other one refuses more and more
    ordered = {
        name: {metric: monotone([row[metric] for row in rows], falls[name]) for metric in ASKED}
        for name, rows in ladders.items()
    }
    return {
        "anchor": ANCHOR,
        "policy": POLICY,
        "settings": settings(trial.checkpoint.config),
        "layer": LAYER,
        "push": PUSH,
        "limit": limit,
        "suites": list(trial.plan.suites),
        "values": values(anchor),
        "attacks": attacks,
        "ladders": ladders,
        "monotone": ordered,
        "turns": {name: turns(rows, falls[name]) for name, rows in ladders.items()},
        "aqi_valid": anchor.result("aqi_log_j").valid,
        "aqi_valid_reason": anchor.result("aqi_log_j").valid_reason,
        "machine": MACHINE,
        "cpu_seconds": round(time.process_time() - begun),
    }


def main() -> None:
    """Measure, say what is found on the way, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--limit", type=int, help="only the first items of each suite")
    parser.add_argument("--suites", help="only these, comma-separated; rules on others are then inconclusive")
    parser.add_argument("--rungs", type=int, default=RUNG_ITEMS, help="items of each suite in a ladder; default 64")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    suites = options.suites.split(",") if options.suites else ()
    found = measured(options.limit, suites, options.rungs, lambda line: print(line, flush=True))
    options.output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
