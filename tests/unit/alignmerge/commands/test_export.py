"""`alignmerge export` and gate's files: every outcome is told, a changed run is told as just that."""

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from alignmerge.auditor.record import save
from alignmerge.cli import main
from tests.valid_exports import junit_problems, sarif_problems, summary_problems

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "policies/records.py")))
POLICY = """\
schema: alignmerge.policy/1
name: mine
summary: One rule.
rules: [{id: refusal-drop, metric: refusal_rate, kind: max_drop, limit: 0.05, min_items: 64}]
"""
Run = Callable[..., int]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(one) for one in arguments])
    assert isinstance(exit_.value.code, int)
    return exit_.value.code


def valid(folder: Path) -> None:
    """The files that `gate` wrote are what other tools read."""
    assert junit_problems((folder / "junit").read_text()) == []
    assert sarif_problems((folder / "sarif").read_text()) == [[], []]
    assert summary_problems((folder / "summary").read_text()) == []


@pytest.fixture
def gate(tmp_path: Path) -> Run:
    """Gates a candidate with so many refusals out of 320 against an anchor with 300, and writes every file."""
    (tmp_path / "p.yaml").write_text(POLICY)
    save(r.audit({"refusal_rate": r.ones(300, 320)}, name="anchor"), tmp_path / "anchor")

    def gated(refusals: int) -> int:
        save(r.audit({"refusal_rate": r.ones(refusals, 320)}), tmp_path / "candidate")
        files = ["-o", tmp_path / "verdict.json"]
        for name in ("junit", "sarif", "summary"):
            files += [f"--{name}", tmp_path / name]
        policy = ["--policy", tmp_path / "p.yaml", "--anchor", tmp_path / "anchor", "--shown-at", "policies/p.yaml"]
        return run("gate", tmp_path / "candidate", *policy, *files)

    return gated


@pytest.mark.parametrize(
    ("refusals", "code", "decision", "tag", "results"),
    [(300, 0, "PASS", None, 0), (200, 3, "FAIL", "failure", 1), (287, 4, "INCONCLUSIVE", "error", 1)],
)
def test_every_decision_is_told_in_every_form(
    gate: Run, tmp_path: Path, refusals: int, code: int, decision: str, tag: str | None, results: int
) -> None:
    assert gate(refusals) == code
    valid(tmp_path)
    case = ET.parse(tmp_path / "junit").find(".//testcase")
    assert case is not None
    assert [child.tag for child in case] == [tag or "system-out"]
    log = json.loads((tmp_path / "sarif").read_text())
    assert len(log["runs"][0]["results"]) == results
    assert log["runs"][0]["invocations"][0]["exitCode"] == code
    assert f"## AlignMerge: {decision}" in (tmp_path / "summary").read_text()
    for kind, name in (("junit", "junit"), ("sarif", "sarif"), ("markdown", "summary")):
        shown = ["--shown-at", "policies/p.yaml"] if kind == "sarif" else []
        assert run("export", tmp_path / "verdict.json", "--format", kind, "-o", tmp_path / "again", *shown) == 0
        assert (tmp_path / "again").read_bytes() == (tmp_path / name).read_bytes()


def test_K01_changed_items_exit_5_and_are_told(gate: Run, tmp_path: Path) -> None:
    save(r.audit({"refusal_rate": r.ones(300, 320)}), tmp_path / "candidate")
    items = tmp_path / "candidate" / "items.jsonl"
    items.write_bytes(items.read_bytes().replace(b'"value":0.0', b'"value":1.0', 1))
    files = ["--sarif", tmp_path / "sarif", "--summary", tmp_path / "summary", "--junit", tmp_path / "junit"]
    anchor = ["--anchor", tmp_path / "anchor"]
    assert run("gate", tmp_path / "candidate", "--policy", tmp_path / "p.yaml", *anchor, *files) == 5
    valid(tmp_path)
    assert "REJECTED" in (tmp_path / "summary").read_text()
    (only,) = json.loads((tmp_path / "sarif").read_text())["runs"]
    assert only["invocations"] == [{"executionSuccessful": False, "exitCode": 5}]
    assert "items.jsonl" in only["results"][0]["message"]["text"]
    assert ET.parse(tmp_path / "junit").find(".//error") is not None


def test_F01_a_candidate_without_an_audit_exits_4_and_is_told(gate: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    summary = tmp_path / "summary"
    summary.write_text("# Before\n")
    code = run("gate", tmp_path / "empty", "--policy", tmp_path / "p.yaml", "--summary", summary)
    assert code == 4
    assert summary.read_text().startswith("# Before\n## AlignMerge: REJECTED")


def test_a_summary_that_cannot_be_written_exits_6(gate: Run, tmp_path: Path) -> None:
    gate(300)
    assert run("gate", tmp_path / "candidate", "--policy", tmp_path / "p.yaml", "--summary", tmp_path) in (2, 6)
    where = tmp_path / "nowhere" / "summary"
    assert run("gate", tmp_path / "candidate", "--policy", tmp_path / "p.yaml", "--summary", where) == 6


def test_options_that_do_not_belong_together_exit_2(gate: Run, tmp_path: Path) -> None:
    gate(300)
    verdict = tmp_path / "verdict.json"
    assert run("export", verdict, "--format", "junit", "--merge", "x") == 2
    assert run("export", verdict, "--format", "junit", "--shown-at", "x") == 2
    assert run("export", verdict, "--format", "card") == 2
    assert run("gate", tmp_path / "candidate", "--policy", "release", "--shown-at", "x") == 2
    recipe = tmp_path / "r.yaml"
    recipe.write_text("")
    assert run("merge", recipe, "-o", tmp_path / "out", "--junit", tmp_path / "j") == 2


def test_I02_a_forged_verdict_is_refused(gate: Run, tmp_path: Path) -> None:
    gate(200)
    verdict = tmp_path / "verdict.json"
    verdict.write_text(verdict.read_text().replace('"FAILED"', '"PASSED"'))
    assert run("export", verdict, "--format", "markdown") == 5


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    assert run("export", tmp_path, "--format", "sarif") == 5
    shutil.rmtree(tmp_path)
