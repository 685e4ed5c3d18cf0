"""Signed approvals: a person's word, under their own key, that one checkpoint may ship as far as one rule goes."""

from datetime import UTC, datetime
from pathlib import Path

from alignmerge import jsonio
from alignmerge.errors import RecordError, StorageError, UsageError
from alignmerge.pipeline.approvals import APPROVAL_TYPE
from alignmerge.pipeline.signing import APPROVALS
from alignmerge.pipeline.verifying import records_folder
from alignmerge.policies.verdict import Verdict, from_statement
from alignmerge.provenance.keys import SigningKey
from alignmerge.provenance.statement import ENDING, Statement, write_signed
from alignmerge.reports.model import inside, read_run

SIGN_OFF = "sign_off"  # the kind of evidence that an approval is, which stands for a metric in its row


def verdict_of(folder: Path) -> Verdict:
    """The verdict of the one merge whose records are in `folder`, or the one in that file, which `gate -o` wrote.

    Raises:
        RecordError: there is no run, no merge, or there are several; or the file holds no verdict.
    """
    if folder.is_file():
        return from_statement(jsonio.read(folder), str(folder))
    run_folder = records_folder(folder)
    rows = [row for row in read_run(run_folder).entries if row.role == "merge" and row.verdict is not None]
    if len(rows) != 1 or rows[0].verdict is None:
        raise RecordError(f"{run_folder / 'run.json'}: holds {len(rows)} merges with a verdict; an approval is of one")
    path = inside(run_folder, rows[0].verdict, "verdict")
    return from_statement(jsonio.read(path), str(path))


def approve(folder: Path, rule: str, approver: str, key: SigningKey) -> tuple[Path, Verdict, Statement]:
    """The approval under `rule` of what `folder` (see verdict_of) speaks of: its file, which lies among the records or
    beside the verdict's file, the verdict it was given to, and what was signed.

    Raises:
        UsageError: the policy wants no sign-off of that name, or the key has approved it already.
        StorageError: it cannot be written.
    """
    verdict = verdict_of(folder)
    known = sorted(row.rule for row in verdict.rules if row.metric == SIGN_OFF)
    if rule not in known:
        names = ", ".join(known) or "none"
        raise UsageError(f"{folder}: policy {verdict.policy_name} wants no sign-off called {rule!r}; known: {names}")
    name = f"{rule}.{key.keyid[:12]}{ENDING}"
    place = folder.parent if folder.is_file() else records_folder(folder) / APPROVALS
    path = place / (f"{folder.stem}.{name}" if folder.is_file() else name)
    if path.exists():
        raise UsageError(f"{path}: this key has approved it already; remove the file to approve again")
    predicate = {
        "rule": rule,
        "approver": approver,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "policy": {"name": verdict.policy_name, "digest": {"sha256": verdict.policy}},
        "verdict": verdict.decision,
    }
    statement = Statement({verdict.subject_name: verdict.subject}, APPROVAL_TYPE, predicate)
    try:
        place.mkdir(exist_ok=True)
    except OSError as error:
        raise StorageError(f"{place}: cannot be made: {error.strerror}") from None
    write_signed(path, statement.to_bytes(), key)
    return path, verdict, statement
