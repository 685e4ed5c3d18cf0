"""`alignmerge policy check|explain`: whether a policy file is valid, and what it asks for in plain words."""

from dataclasses import asdict

import click

from alignmerge import jsonio


@click.group("policy")
def command() -> None:
    """Check a policy file, or explain it in plain words."""


@command.command("check")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print the parsed policy as JSON.")
def check(file: str, as_json: bool) -> int:
    """Check FILE, a policy file or the name of a shipped policy. Exits 2 when it is not valid."""
    from alignmerge.policies.schema import load_policy, policy_digest

    policy = load_policy(file)
    if as_json:
        value = {"digest": policy_digest(policy), "policy": policy.model_dump(mode="json", by_alias=True)}
        click.echo(jsonio.canonical(value).decode())
        return 0
    blocking = sum(1 for rule in policy.rules if rule.severity == "block") + len(policy.required_evidence)
    click.echo(f"{policy.name}: valid; {len(policy.rules)} rules, {blocking} requirements block")
    click.echo(f"sha256 {policy_digest(policy)}")
    return 0


@command.command("explain")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print what each rule can decide as JSON.")
def explain(file: str, as_json: bool) -> int:
    """Say in plain words what FILE asks for and how much evidence its rules need."""
    from alignmerge.policies.explain import decidability, policy_lines
    from alignmerge.policies.schema import load_policy

    policy = load_policy(file)
    if as_json:
        found = [decidability(policy, rule) for rule in policy.rules]
        rows = [None if row is None else asdict(row) for row in found]
        value = [{"rule": rule.id, "decides": row} for rule, row in zip(policy.rules, rows, strict=True)]
        click.echo(jsonio.canonical(value).decode())
        return 0
    for line in policy_lines(policy):
        click.echo(line)
    return 0
