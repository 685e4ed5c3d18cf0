"""action.yml, the pre-commit hook and the examples: their scripts run, on real records, with our own command line."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from alignmerge import yamlio
from alignmerge.auditor.record import save
from alignmerge.cli import cli
from tests.valid_exports import junit_problems, sarif_problems, summary_problems

ROOT = Path(__file__).resolve().parents[2]
r = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/policies/records.py")))
ACTION = yamlio.load(ROOT / "action.yml")
HOOKS = yamlio.load(ROOT / ".pre-commit-hooks.yaml")
EXAMPLES = ROOT / "examples" / "github"
WORKFLOW = yamlio.load(EXAMPLES / "gate.yml")
POLICY = """\
schema: alignmerge.policy/1
name: mine
summary: One rule.
rules: [{id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 64}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `bin/alignmerge`, `policies/ours.yaml` and an anchor's audit."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "alignmerge"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from alignmerge.cli import main; main()"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    command.chmod(0o755)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "ours.yaml").write_text(POLICY)
    save(r.audit({"refusal_rate": r.ones(300, 320)}, name="anchor"), tmp_path / "records" / "anchor")
    return tmp_path


def shell(place: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    found = {**os.environ, "PATH": path, **variables}
    return subprocess.run(["bash", *arguments], cwd=place, env=found, capture_output=True, text=True, timeout=120)


def act(place: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The action's one step, as GitHub runs it: inputs and their defaults as variables, files for its outputs."""
    (step,) = ACTION["runs"]["steps"]
    inputs = {name: row.get("default", "") for name, row in ACTION["inputs"].items()} | given
    variables = {}
    for name, text in step["env"].items():
        found = re.fullmatch(r"\$\{\{ inputs\.([a-z-]+) \}\}", text)
        assert found is not None, text
        variables[name] = inputs[found[1]]
    files = {name: str(place / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    return shell(place, "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"], **variables, **files)


@pytest.mark.parametrize(("refusals", "code", "decision"), [(300, 0, "PASS"), (200, 3, "FAIL")])
def test_the_action_gates_and_tells(place: Path, refusals: int, code: int, decision: str) -> None:
    save(r.audit({"refusal_rate": r.ones(refusals, 320)}), place / "records" / "candidate")
    (with_,) = [step["with"] for step in WORKFLOW["jobs"]["gate"]["steps"] if "audit" in step.get("with", {})]
    done = act(place, **with_)
    assert done.returncode == code, done.stderr
    assert (place / "GITHUB_OUTPUT").read_text() == f"exit-code={code}\n"
    assert f"AlignMerge: {decision}" in (place / "GITHUB_STEP_SUMMARY").read_text()
    assert '"policies/ours.yaml"' in (place / "alignmerge.sarif").read_text() or code == 0
    assert sarif_problems((place / "alignmerge.sarif").read_text()) == [[], []]
    assert junit_problems((place / "alignmerge-junit.xml").read_text()) == []
    assert summary_problems((place / "GITHUB_STEP_SUMMARY").read_text()) == []
    assert (place / "alignmerge-verdict.json").is_file()


def test_the_action_takes_waivers_and_the_root_of_a_lineage(place: Path) -> None:
    record = r.audit({"refusal_rate": r.ones(200, 320)})
    save(record, place / "records" / "candidate")
    today = datetime.now(UTC).date()
    (place / "waivers.yaml").write_text(
        "schema: alignmerge.waivers/1\nwaivers:\n"
        f"  - {{rule: refusal-drop, subject: '{record.checkpoint}', reason: 'A test.', approver: 'R. Meyer', "
        f"created: '{today}', expires: '{today + timedelta(days=2)}'}}\n"
    )
    given = {"audit": "records/candidate", "policy": "policies/ours.yaml", "anchor": "records/anchor"}
    assert act(place, **given).returncode == 3
    done = act(place, **given, waivers="waivers.yaml")
    assert done.returncode == 0, done.stderr
    assert "waived by R. Meyer" in (place / "GITHUB_STEP_SUMMARY").read_text()
    (place / "policies" / "ours.yaml").write_text(POLICY.replace("min_items", "against: root, min_items"))
    save(r.audit({"refusal_rate": r.ones(299, 320)}), place / "records" / "candidate")
    assert act(place, **given).returncode == 4
    assert act(place, **given, root="records/anchor").returncode == 0


def test_J01_an_input_is_never_run_as_shell(place: Path) -> None:
    hostile = '$(touch pwned) `touch pwned` "; touch pwned; "'
    done = act(place, audit=hostile, policy=hostile, anchor=hostile, waivers=hostile, root=hostile)
    assert done.returncode in (2, 6)
    assert not (place / "pwned").exists()
    (step,) = ACTION["runs"]["steps"]
    assert "${{" not in step["run"]


def test_the_hook_checks_every_file(place: Path) -> None:
    (hook,) = HOOKS
    assert re.search(hook["files"], "policies/ours.yaml")
    assert not re.search(hook["files"], "recipes/ours.yaml")
    program, *arguments = shlex.split(hook["entry"])
    assert program == "bash"
    assert shell(place, *arguments, "policies/ours.yaml").returncode == 0
    (place / "policies" / "bad.yaml").write_text(POLICY.replace("0.05", ".nan"))
    assert shell(place, *arguments, "policies/bad.yaml", "policies/ours.yaml").returncode == 2


def commands(value: Any) -> list[str]:
    lines = [line for step in value["jobs"]["gate"]["steps"] for line in step.get("run", "").splitlines()]
    return [line for line in lines if line.startswith("alignmerge ")]


def test_the_example_asks_for_what_there_is() -> None:
    uses = [step for step in WORKFLOW["jobs"]["gate"]["steps"] if step.get("uses", "").startswith("alignmerge/")]
    assert len(uses) == 1
    assert set(uses[0]["with"]) <= set(ACTION["inputs"])
    needed = {name for name, row in ACTION["inputs"].items() if row.get("required")}
    assert needed <= set(uses[0]["with"])
    (sarif,) = [step for step in WORKFLOW["jobs"]["gate"]["steps"] if "sarif_file" in step.get("with", {})]
    assert sarif["with"]["sarif_file"] == ACTION["inputs"]["sarif"]["default"]
    assert sarif["if"] == "always()"
    hooks = yamlio.load(EXAMPLES / "pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["id"] for hook in hooks] == [hook["id"] for hook in HOOKS]


@pytest.mark.parametrize("line", commands(WORKFLOW))
def test_the_example_s_commands_are_understood(line: str) -> None:
    name, *arguments = shlex.split(line)[1:]
    command: Any = cli.get_command(click.Context(cli), name)
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), arguments.pop(0))
    command.parse_args(click.Context(command), arguments)
