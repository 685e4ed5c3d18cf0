"""How far each form of the refusal scorer is from people, or from the form that people checked.

    python benchmarks/refusal_forms.py --xstest DIR [--model zoo:safety] [--calibration 60] [--pairs 100]

The string form is read on XSTest's 2,250 completions of five models and compared with their human labels. The
likelihood form reads a model's own state and cannot be asked of these completions; it is compared, on our own test
pairs, with the string form's reading of the same model's answers, after its threshold was set on our calibration pairs.
Nothing is set on XSTest. The judge form sits the judge's exam (`alignmerge judge`), which holds the same completions.

A partial refusal counts as a refusal in the first row of each file, and is left out in the second.
"""

import argparse
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.auditor.judge.kappa import agreement, kappa
from alignmerge.auditor.scorers.refusal import is_refusal
from alignmerge.auditor.scorers.refusal_likelihood import log_odds, threshold
from alignmerge.auditor.statistics import wilson
from alignmerge.errors import IntegrityError, RecordError, StorageError
from alignmerge.suites.model import Split, select
from alignmerge.suites.openings import COMPLYING, REFUSING
from alignmerge.suites.registry import get_suite

LABELS = {"1_full_compliance": "comply", "2_full_refusal": "refuse", "3_partial_refusal": "partial"}
WORTH = {"comply": 0.0, "refuse": 1.0}
LEVEL = 0.95


@dataclass(frozen=True)
class Row:
    """A form's error against `truth`: rates with Wilson's 95 % intervals, kappa with its own."""

    form: str
    truth: str
    source: str
    partial: str
    n: int
    refusals: int
    accuracy: tuple[float, float, float]
    kappa: tuple[float | None, float | None, float | None]
    false_refusal_rate: tuple[float, float, float]
    missed_refusal_rate: tuple[float, float, float]


def measured(form: str, truth: str, source: str, partial: str, pairs: Sequence[tuple[bool, bool]]) -> Row:
    """The row of (true, said) pairs."""
    named = [("refuse" if true else "comply", "refuse" if said else "comply") for true, said in pairs]
    found = kappa(agreement(named, WORTH))
    refusals = [said for true, said in pairs if true]
    others = [said for true, said in pairs if not true]
    return Row(
        form,
        truth,
        source,
        partial,
        len(pairs),
        len(refusals),
        _rate(sum(true == said for true, said in pairs), len(pairs)),
        (found.value, found.low, found.high),
        _rate(sum(others), len(others)),
        _rate(len(refusals) - sum(refusals), len(refusals)),
    )


def _rate(events: int, total: int) -> tuple[float, float, float]:
    interval = wilson(events, total, LEVEL)
    return events / total, interval.low, interval.high


def completions(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """(completion, label) by model, from XSTest's files; each is checked against MANIFEST.json above the folder.

    Raises:
        StorageError, RecordError: no files, or other columns and labels than XSTest's.
        IntegrityError: a file is not the one that MANIFEST.json names.
    """
    paths = sorted(folder.glob("xstest_v2_completions_*.csv"))
    if not paths:
        raise StorageError(f"{folder}: no xstest_v2_completions_*.csv")
    manifest = folder.parent / "MANIFEST.json"
    known = {row["file"]: row["sha256"] for row in jsonio.read(manifest) if row["set"] == folder.name}
    out = {}
    for path in paths:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != known.get(path.name):
            raise IntegrityError(f"{path}: not the file that {manifest} names")
        rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
        try:
            out[path.stem.removeprefix("xstest_v2_completions_")] = [
                (row["completion"], LABELS[row["final_label"]]) for row in rows
            ]
        except KeyError as error:
            raise RecordError(f"{path}: not XSTest's columns or labels: {error}") from None
    return out


def string_rows(folder: Path) -> list[Row]:
    """The string form against people, per model and over all of them."""
    found = completions(folder)
    found["all five"] = [row for rows in found.values() for row in rows]
    out = []
    for model, rows in found.items():
        read = [(label, is_refusal(text)) for text, label in rows]
        every = [(label != "comply", said) for label, said in read]
        clear = [(label == "refuse", said) for label, said in read if label != "partial"]
        out.append(measured("string", "XSTest's human labels", model, "counts as a refusal", every))
        out.append(measured("string", "XSTest's human labels", model, "left out", clear))
    return out


def likelihood_row(model: str, calibration: int, pairs: int, dtype: str) -> tuple[Row, dict[str, Any]]:
    """The likelihood form against the string form on a model's own answers, and how its threshold was set."""
    from alignmerge.auditor.engines.base import Sampling
    from alignmerge.auditor.engines.transformers_engine import TransformersEngine
    from alignmerge.models import load_model

    engine = TransformersEngine(*load_model(model, dtype))
    suites = [get_suite("refusal"), get_suite("over_refusal")]

    def asked(split: Split, limit: int) -> tuple[list[float], list[bool]]:
        prompts = [item.prompt for suite in suites for item in select(suite, split, limit)]
        answers = engine.generate(prompts, Sampling(suites[0].max_new_tokens))
        return log_odds(engine, prompts), [is_refusal(answer.text) for answer in answers]

    odds, refused = asked("calibration", calibration)
    cut = threshold(odds, refused)
    found, said = asked("test", pairs)
    row = measured(
        "likelihood",
        "the string form's reading of the same model's answers",
        f"{model}, {pairs} harmful and {pairs} harmless test prompts",
        "read as the string form does",
        [(true, value > cut) for true, value in zip(said, found, strict=True)],
    )
    return row, {
        "threshold": cut,
        "calibration_prompts": len(odds),
        "calibration_agreement": sum((v > cut) == r for v, r in zip(odds, refused, strict=True)) / len(odds),
        "refusing": list(REFUSING),
        "complying": list(COMPLYING),
        "engine": dict(engine.describe()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xstest", type=Path, required=True)
    parser.add_argument("--model", default="zoo:safety")
    parser.add_argument("--calibration", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "refusal_forms.json")
    chosen = parser.parse_args()
    rows = string_rows(chosen.xstest)
    row, how = likelihood_row(chosen.model, chosen.calibration, chosen.pairs, chosen.dtype)
    rows.append(row)
    jsonio.write(chosen.output, {"rows": [asdict(one) for one in rows], "likelihood": how})
    for one in rows:
        print(
            f"{one.form:<11} {one.source:<55} partial {one.partial:<29} n={one.n:<5} accuracy {one.accuracy[0]:.3f} "
            f"kappa {one.kappa[0] or 0:.3f} false refusals {one.false_refusal_rate[0]:.3f} "
            f"missed {one.missed_refusal_rate[0]:.3f}"
        )


if __name__ == "__main__":
    main()
