"""`alignmerge verify`: whether a run's weights, records, policy and verdicts still agree, or a verdict of `gate`."""

from pathlib import Path
from typing import Any

import click

from alignmerge import jsonio
from alignmerge.errors import Inconclusive, IntegrityError, UsageError
from alignmerge.terminal import printable


@click.command("verify")
@click.argument("folder", metavar="WHERE", type=click.Path(exists=True, path_type=Path))
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="Public key that it must be signed by.")
@click.option(
    "--audit",
    "audits",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="AUDIT",
    help="An audit that a verdict names and WHERE does not hold: of the root, or of an expert.",
)
@click.option("--policy", metavar="P", help="Where WHERE is a verdict: the policy that it names.")
@click.option(
    "--approver-key",
    "approvers",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Public key that the approvals in verdicts must be by; without one they are not checked.",
)
@click.option("--rerun", is_flag=True, help="Merge again as merge.json says, beside WHERE, and compare the tensors.")
@click.option("--json", "as_json", is_flag=True, help="Print what was checked as JSON.")
def command(
    folder: Path,
    key: Path | None,
    audits: tuple[Path, ...],
    policy: str | None,
    approvers: tuple[Path, ...],
    rerun: bool,
    as_json: bool,
) -> int:
    """Check the digests, records, verdicts and signatures in WHERE: a run, a merge, or the records of one.

    Exits 0 when everything agrees, whatever the verdicts say, and 5 when anything was changed, naming it. With --key it
    must be signed by that key; without it, signatures are checked with the key that lies beside them, and the key's
    name is shown. Exits 4 when a verdict rests on an audit or approval that is not here, so that it cannot be decided
    again; what is missing is named.

    WHERE may also be a verdict that `gate -o` wrote: --key checks the envelope beside it; with --policy and an --audit
    for each record that it names it is decided again.

    With --rerun the recipe is run again on the same inputs. A method that needs no data must give the same tensors, or
    the exit code is 5. One that needs data may differ on another platform or other library versions: it is then said
    whether it was reproduced within 1e-3 relative L2, and the exit code is 4 if it was not.
    """
    from alignmerge.pipeline.gating import load_audit
    from alignmerge.pipeline.verifying import verify
    from alignmerge.provenance import keys

    if folder.is_file() and rerun:
        raise UsageError("--rerun: a verdict alone names no recipe; give the folder of the merge")
    if policy is not None and not folder.is_file():
        raise UsageError("--policy: the folder of a run holds its own policies; leave it out")
    if folder.is_file() and key is None and policy is None and not audits:
        raise UsageError(
            f"{folder}: a verdict is checked by --key, or by --policy and an --audit of each record it names"
        )
    signer = keys.load_public(key) if key is not None else None
    given: dict[str, Any] = {
        "audits": [load_audit(path) for path in audits],
        "approvers": [keys.load_public(path) for path in approvers],
    }
    if folder.is_file():
        from alignmerge.pipeline.verifying_file import verify_file
        from alignmerge.policies.schema import load_policy

        found = verify_file(folder, signer, policy=load_policy(policy) if policy is not None else None, **given)
    else:
        found = verify(folder, signer, **given)
    again = None
    if rerun and not found.findings:
        from alignmerge.pipeline.rerunning import rerun as run_again

        again = run_again(folder)
        found = again.added_to(found)
    code = again.exit_code if again is not None else 0
    if found.findings or found.absent:
        code = IntegrityError.exit_code if found.findings else max(code, Inconclusive.exit_code)
    if as_json:
        value = {
            "checked": list(found.checked),
            "verdicts": found.verdicts,
            "findings": [{"where": one.where, "problem": one.problem} for one in found.findings],
            "absent": [{"where": one.where, "problem": one.problem} for one in found.absent],
            "notes": list(found.notes),
            "signer": found.signer,
            "rerun": again.to_json() if again is not None else None,
        }
        click.echo(jsonio.canonical(value).decode())
        return code
    for one in found.findings:
        click.echo(printable(f"CHANGED {one}"), err=True)
    for one in found.absent:
        click.echo(printable(f"ABSENT {one}"), err=True)
    for note in found.notes:
        click.echo(printable(f"note: {note}"))
    for label, decision in found.verdicts.items():
        click.echo(printable(f"{label}: {decision}"))
    if found.findings:
        raise IntegrityError(f"{folder}: {len(found.findings)} of what was checked does not hold (named above)")
    if found.absent:
        raise Inconclusive(f"{folder}: {len(found.absent)} of what verdicts rest on is not here (named above)")
    what = "a verdict" if folder.is_file() else f"{len(found.checked)} records and models agree"
    click.echo(printable(f"verified: {what}"))
    return code
