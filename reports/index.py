"""One page over many runs: what each came to, and which checkpoint was made from which.

Only folders inside the index's own folder are linked, by relative paths; the runs are read, never changed.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from alignmerge import __version__
from alignmerge.errors import RecordError
from alignmerge.provenance.ledger import Entry as LedgerEntry
from alignmerge.reports.lineage import lineage
from alignmerge.reports.loaded import run_folder
from alignmerge.reports.model import REFUSAL, ReportInput, load_run
from alignmerge.reports.names import SIGNS
from alignmerge.reports.ranking import Ranked, estimate_of, rank
from alignmerge.reports.render import environment, source_hash
from alignmerge.reports.text import FIELD_CHARACTERS, UNMEASURED, number, signed


@dataclass(frozen=True)
class Line:
    """One merge of one run as printed; `link` is the run's report, empty where it lies outside the page's folder."""

    title: str
    link: str
    label: str
    decision: str
    sign: str
    gain: str
    gain_interval: str
    change: str
    policy: str
    created: str
    checkpoint: str


def load_runs(folders: Sequence[Path]) -> list[tuple[Path, ReportInput]]:
    """The run folders and their runs.

    Raises:
        RecordError: a folder holds no run, or see `load_run`.
    """
    found = []
    for folder in folders:
        place = run_folder(folder)
        if place is None:
            raise RecordError(f"{folder}: no run.json here; an index is over runs")
        found.append((place, load_run(place)))
    return found


def render(runs: Sequence[tuple[Path, ReportInput]], beside: Path, ledger: Sequence[LedgerEntry] = ()) -> str:
    """The page, to be written into the folder `beside`; the same bytes for equal input."""
    env = environment()
    lines = [line for place, run in runs for line in _lines(place, run, beside)]
    return env.get_template("index.html.j2").render(
        runs=len(runs),
        lines=lines,
        nodes=lineage([run for _, run in runs], ledger),
        created=max((run.created for _, run in runs), default=""),
        version=__version__,
        style_hash=source_hash(env, "style.css"),
        script_hash=source_hash(env, "page.js"),
    )


def _lines(place: Path, run: ReportInput, beside: Path) -> list[Line]:
    link = link_to(place / "report.html", beside)
    kept = None if run.anchor is None else estimate_of(run.anchor.audit.result(REFUSAL))
    lines = []
    for row in rank(run, REFUSAL):
        verdict, refusal = row.entry.verdict, estimate_of(row.refusal)
        decision = "UNGATED" if verdict is None else verdict.decision
        lines.append(
            Line(
                title=run.title,
                link=link,
                label=row.entry.label,
                decision=decision,
                sign=SIGNS.get(decision, "–"),
                gain=UNMEASURED if row.gain is None else signed(row.gain.value),
                gain_interval=_interval(row),
                change=UNMEASURED if refusal is None or kept is None else signed(refusal.value - kept.value),
                policy=run.policy_name if verdict is None else verdict.policy_name,
                created=run.created,
                checkpoint=row.entry.audit.checkpoint,
            )
        )
    return lines


def _interval(row: Ranked) -> str:
    gain = row.gain
    if gain is None or gain.low is None or gain.high is None:
        return ""
    return f"{number(gain.low)} to {number(gain.high)}"


def link_to(target: Path, beside: Path) -> str:
    """The relative address, without "./", of a file that is there inside the folder `beside`; empty for any other."""
    real, root = target.resolve(), beside.resolve()
    if not real.is_file() or not real.is_relative_to(root):
        return ""
    address = quote(os.fsencode(real.relative_to(root).as_posix()))
    return address if len(address) < FIELD_CHARACTERS else ""
