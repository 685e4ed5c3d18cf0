"""transformers against vLLM on the same items: paired differences, item agreement, and the noise of each with itself.

    python -m benchmarks.engines --limit 100 --vllm-python PYTHON

Audits one model four times: by our own engine at two batch sizes, and by a vLLM server asked by two numbers of requests
at once. Each engine's second audit against its first is its self-noise floor: two engines cannot agree better than one
agrees with itself. Prompts go to both as the same token ids. Items are those of the test split. With --records, answers
and audits that are already there are taken from there, so that a run that was stopped goes on.
"""

import argparse
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor import record
from alignmerge.auditor.agreement import agreement
from alignmerge.auditor.engines.vllm_server import VLLMServer
from alignmerge.auditor.record import AuditRecord
from alignmerge.merger.checkpoint import Checkpoint, open_checkpoint
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.pipeline.bench import Bench
from alignmerge.pipeline.choices import EngineKind
from alignmerge.pipeline.engines import vllm_engine, vllm_server
from benchmarks.merge_machine import description

BAR = 0.03
BATCHES = (64, 24)
SUITES = ("refusal", "over_refusal", "arithmetic", "instructions", "units")


@dataclass
class Audits:
    """Audits of one checkpoint by several engines, each made once.

    The server is started when it is first needed, into `stack`, and ends with that.
    """

    plan: AuditPlan
    checkpoint: Checkpoint
    folder: Path
    stack: ExitStack
    server: VLLMServer | None = None

    def of(self, kind: EngineKind, batch: int) -> AuditRecord:
        """The record, from the folder where it is there."""
        label = f"{kind}-{batch}"
        if (self.folder / label / "audit.json").exists():
            return record.load(self.folder / label)
        plan = replace(self.plan, engine=kind, batch_size=batch)
        with Bench(plan, self.folder / "answers.sqlite") as bench:
            found = self._asked(plan, bench, label)
        record.save(found, self.folder / label)
        return found

    def _asked(self, plan: AuditPlan, bench: Bench, label: str) -> AuditRecord:
        digest = self.checkpoint.digest
        if plan.engine == "transformers":
            return bench.audit(bench.engine(self.checkpoint), digest, label)
        if self.server is None:
            self.server = self.stack.enter_context(vllm_server(plan, self.checkpoint, self.checkpoint.folder))
        with vllm_engine(plan, self.checkpoint, self.server) as served:
            return bench.audit(served, digest, label)


def compared(first: AuditRecord, second: AuditRecord) -> dict[str, Any]:
    """The rows of two records, and whether every difference lies inside the bar."""
    rows = agreement(first, second)
    return {
        "first": first.name,
        "second": second.name,
        "largest_difference": max(abs(row.difference) for row in rows),
        "within_bar": all(abs(row.difference) <= BAR for row in rows),
        "rows": [asdict(row) for row in rows],
    }


def shown(title: str, found: dict[str, Any]) -> None:
    print(f"{title}: largest difference {found['largest_difference']:.3f} (bar {BAR})")
    for row in found["rows"]:
        between = row["interval"]
        interval = f" [{between['low']:+.3f}, {between['high']:+.3f}]" if between else ""
        print(
            f"  {row['metric']:<28} {row['first']:.3f} {row['second']:.3f} {row['difference']:+.3f}{interval}"
            f"  n={row['items']}, same score {row['same_scores']:.3f}, same answer {row['same_answers']:.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reference:smollm2-135m")
    parser.add_argument("--limit", type=int, default=100, help="items per suite")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--vllm-python")
    parser.add_argument("--without-vllm", action="store_true", help="only our own engine with itself")
    parser.add_argument("--records", type=Path, help="keep the audit records in this folder")
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "engines.json")
    chosen = parser.parse_args()
    plan = AuditPlan(suites=SUITES, limit=chosen.limit, dtype=chosen.dtype, vllm_python=chosen.vllm_python)
    kinds: tuple[EngineKind, ...] = ("transformers",) if chosen.without_vllm else ("transformers", "vllm")
    found: dict[tuple[EngineKind, int], AuditRecord] = {}
    with tempfile.TemporaryDirectory() as name:
        for kind in reversed(kinds):
            with ExitStack() as stack:
                audits = Audits(plan, open_checkpoint(chosen.model), chosen.records or Path(name), stack)
                found |= {(kind, batch): audits.of(kind, batch) for batch in BATCHES}
    whole = {"noise of transformers": compared(*(found["transformers", batch] for batch in BATCHES))}
    if not chosen.without_vllm:
        whole["noise of vllm"] = compared(*(found["vllm", batch] for batch in BATCHES))
        whole["transformers against vllm"] = compared(*(found[kind, BATCHES[0]] for kind in kinds))
    result = {
        "bar": BAR,
        "model": chosen.model,
        "items_per_suite": chosen.limit,
        "comparisons": whole,
        "engines": {f"{kind}-{batch}": dict(audit.engine) for (kind, batch), audit in found.items()},
        "machine": chosen.machine,
        "versions": description(None),
    }
    jsonio.write(chosen.output, result)
    for title, comparison in whole.items():
        shown(title, comparison)
    print(chosen.output)


if __name__ == "__main__":
    main()
