"""The report of verdicts that the real policies gave, read back from the folder a run leaves."""

import pytest

from alignmerge.pipeline.runfolder import RunFolder
from alignmerge.policies.decide import decide
from alignmerge.policies.schema import load_policy
from alignmerge.reports.model import ReportInput, load_run
from alignmerge.reports.render import render
from alignmerge.reports.sections import budgets, further, verdicts


@pytest.fixture(scope="module")
def loaded(report: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> ReportInput:
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    folder.start()
    demo, release = load_policy("demo"), load_policy("release")
    anchor = report.anchor
    assert anchor is not None
    for entry in report.entries:
        label = entry.label.replace(" ", "-")
        if entry.role != "merge":
            folder.add(label, entry.role, entry.audit)
            continue
        main, also = (
            decide(policy, entry.audit, anchor.audit, created=report.created, version=report.version)
            for policy in (demo, release)
        )
        merge = dict(entry.merge) if entry.merge is not None else None
        folder.add(label, entry.role, entry.audit, merge=merge, verdict=main, also=[also])
    folder.finish(title=report.title, created=report.created, policy=demo, notes=["a note"])
    return load_run(folder.path)


def test_a_rejected_merge_names_the_deciding_rule(loaded: ReportInput) -> None:
    cards = {card.label: card for card in verdicts.view(loaded).cards}
    assert cards["TIES"].decision == "FAIL"
    rule = cards["TIES"].rules[0]
    assert (rule.rule, rule.value, rule.limit) == ("refusal-drop", "0.720", "0.150")
    assert float(rule.bound) > 0.6


def test_every_rule_of_both_policies_is_shown(loaded: ReportInput) -> None:
    page = render(loaded)
    for budget in budgets.view(loaded):
        assert len(budget.rules) == len(load_policy("demo").rules)
        for line in budget.rules:
            assert line.rule in page
    rows = further.view(loaded)
    assert {row.policy for row in rows} == {"release"}
    assert all(line.decision != "pass" for row in rows for line in row.open)
    assert "a note" in page
