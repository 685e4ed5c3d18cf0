"""`alignmerge policy check|explain|plan|schema`: whether a policy file is valid, and what it asks for."""

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
    """Check FILE, a policy file or the name of a shipped policy. Exits 2 when it is not valid.

    Things that are allowed and probably not meant are printed as warnings, and exit 0.
    """
    from alignmerge.policies.lint import lint
    from alignmerge.policies.reasons import many
    from alignmerge.policies.registered import REGISTERED
    from alignmerge.policies.schema import policy_digest, policy_json, read_policy
    from alignmerge.terminal import printable

    read = read_policy(file)
    policy = read.policy
    warnings = lint(policy, REGISTERED, read.extends, read.changes)
    if as_json:
        value = {"digest": policy_digest(policy), "policy": policy_json(policy), "extends": read.extends}
        click.echo(jsonio.canonical({**value, "warnings": warnings}).decode())
        return 0
    blocking = sum(1 for rule in policy.rules if rule.severity == "block") + len(policy.required_evidence)
    blocks = f"{many(blocking, 'requirement')} {'blocks' if blocking == 1 else 'block'}"
    click.echo(f"{policy.name}: valid; {many(len(policy.rules), 'rule')}, {blocks}")
    click.echo(f"sha256 {policy_digest(policy)}")
    for warning in warnings:
        click.echo(printable(f"warning: {warning}"), err=True)
    return 0


@command.command("explain")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print what each rule can decide as JSON.")
def explain(file: str, as_json: bool) -> int:
    """Say in plain words what FILE asks for and how much evidence its rules need.

    Where FILE extends a shipped policy, every change is shown, and those that loosen a blocking rule are marked.
    """
    from alignmerge.policies.explain import decidability, policy_lines
    from alignmerge.policies.schema import read_policy

    read = read_policy(file)
    policy = read.policy
    if as_json:
        found = [decidability(policy, rule) for rule in policy.rules]
        rows = [None if row is None else asdict(row) for row in found]
        value = [{"rule": rule.id, "decides": row} for rule, row in zip(policy.rules, rows, strict=True)]
        click.echo(jsonio.canonical(value).decode())
        return 0
    for line in policy_lines(policy, read.extends, read.changes):
        click.echo(line)
    return 0


@command.command("plan")
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per rule.")
def plan(file: str, as_json: bool) -> int:
    """Say how many items decide each rule of FILE, before anything is asked."""
    from alignmerge.policies.needs import needs_lines, planned
    from alignmerge.policies.schema import load_policy

    policy = load_policy(file)
    if as_json:
        for row in planned(policy):
            click.echo(jsonio.canonical(asdict(row)).decode())
        return 0
    for line in needs_lines(policy):
        click.echo(line)
    return 0


@command.command("schema")
def schema() -> int:
    """Print the JSON Schema of policy files, for editors."""
    from alignmerge.policies.editor import json_schema

    click.echo(jsonio.pretty(json_schema()), nl=False)
    return 0
