"""`alignmerge approve`: sign off a merge under a rule of its policy that waits for a person."""

from pathlib import Path

import click

from alignmerge import jsonio
from alignmerge.commands.keys import witness_of, witness_options
from alignmerge.errors import UsageError
from alignmerge.terminal import printable


@click.command("approve")
@click.argument("folder", metavar="WHERE", type=click.Path(exists=True, path_type=Path))
@click.option("--rule", required=True, metavar="ID", help="The rule that wants a sign-off.")
@click.option("--approver", required=True, metavar="NAME", help="Who approves; shown beside the name of the key.")
@witness_options
@click.option("--json", "as_json", is_flag=True, help="Print the approval as JSON.")
def command(folder: Path, rule: str, approver: str, key: Path | None, ledger: Path | None, as_json: bool) -> int:
    """Write a signed approval of the merge in WHERE, or of the verdict that `gate -o` wrote, for `gate --approval`.

    It holds for this checkpoint, this rule and this policy alone. The approver's own key signs it.
    """
    from alignmerge.pipeline.approving import approve

    witness = witness_of(key, ledger, folder)
    if witness.key is None:
        raise UsageError("approve: an approval is a signature; give the approver's --key FILE")
    path, verdict, statement = approve(folder, rule, approver, witness.key)
    witness.approved(verdict.subject, verdict.subject_name, verdict.policy, statement.predicate)
    if as_json:
        value = {"file": str(path), "subject": verdict.subject, **statement.predicate}
        click.echo(jsonio.canonical(value).decode())
        return 0
    click.echo(printable(f"approved: {verdict.subject_name} ({verdict.subject[:12]}) under rule {rule} by {approver}"))
    click.echo(printable(f"written: {path}"))
    return 0
