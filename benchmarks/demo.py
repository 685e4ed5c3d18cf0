"""The numbers of a run of `alignmerge demo` as one small file: what README and docs/alignmerge-measured.md show.

alignmerge demo
python benchmarks/demo.py alignmerge-demo [--machine WORDS]
"""

import argparse
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.pipeline.ranking import COLUMNS, HEADINGS, mean_skill
from alignmerge.reports.loaded import load
from alignmerge.reports.model import Entry

RESULTS = Path(__file__).parent / "results" / "demo.json"


def row(entry: Entry) -> dict[str, Any]:
    """What the table of the demo prints of one checkpoint, to three decimals."""
    values = {"mean skill": mean_skill(entry.audit)}
    for heading, metric in zip(HEADINGS, COLUMNS, strict=True):
        found = entry.audit.result(metric)
        values[heading] = None if found is None else found.value
    if entry.drift is not None:
        values["drift"] = entry.drift["finite_drift"]["value"]
    shown = {name: None if value is None else round(value, 3) for name, value in values.items()}
    verdict = entry.verdict
    decided = {} if verdict is None else {"verdict": verdict.decision, "rules": [rule.reason for rule in verdict.rules]}
    return {"role": entry.role, "digest": entry.audit.checkpoint, **shown, **decided}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--machine", default="not stated")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    run = load([chosen.run])
    rows = {entry.label: row(entry) for entry in run.entries}
    jsonio.write(chosen.output, {"made": run.created, "machine": chosen.machine, "rows": rows})
    for label, values in rows.items():
        print(label, jsonio.canonical(values).decode())


if __name__ == "__main__":
    main()
