"""The report in its other forms: Markdown, JSON, CSV; audits without a run; texts withheld."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from alignmerge.auditor import record
from alignmerge.commands.report import command
from alignmerge.errors import RecordError, UsageError
from alignmerge.policies.verdict import RuleResult
from alignmerge.policies.waivers import WaiverUse
from alignmerge.reports import flat, markdown
from alignmerge.reports.loaded import load, of_audits
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import render
from alignmerge.reports.sections import comparison, verdicts


def test_markdown_says_what_the_page_says(report: ReportInput) -> None:
    text = markdown.render(report)
    assert verdicts.view(report).summary in text
    for entry in report.merges:
        assert entry.verdict is not None and f"**{entry.label}: {entry.verdict.decision}.**" in text
    shown = comparison.view(report)
    cells = [cell for row in shown.rows for cell in row.cells if cell.value]
    assert cells and all(f"{cell.value} ({cell.interval})" in text for cell in cells if cell.interval)
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in rows.splitlines()}) == 1  # a row has as many cells as its head


def test_markdown_holds_every_number_of_the_page(report: ReportInput) -> None:
    text = markdown.render(report)
    page = render(report, redact=True)
    page = re.sub(r"<(style|script|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    page = re.sub(r"<summary>Merge record of.*?</details>", "", page, flags=re.DOTALL)
    page = re.sub(r'<details class="pair">.*?</details>', "", page, flags=re.DOTALL)
    shown = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", re.sub(r"<[^>]+>", " ", page))
    assert len(shown) > 500 and not {one for one in shown if one not in text}
    assert page.count("<caption>") > 20  # and their headings
    for head in re.findall(r'<section id="(\w+)" aria', page):
        found = re.search(rf'<h2 id="{head}-title">(.*?)</h2>', page)
        assert found is not None
        assert {"answers": "## What changed"}.get(head, f"## {found[1]}") in text


def test_markdown_says_how_it_was_decided_and_from_what(report: ReportInput) -> None:
    text = markdown.render(report)
    card = next(one for one in verdicts.view(report).cards if one.decision == "PASS")
    assert markdown.inert(card.lead) in text and markdown.inert(card.rules[0].margin[1:]) in text
    assert "Holm's correction" in text and "under release: ? INCONCLUSIVE" in text
    assert "AUC 0.97 on calibration pairs" in text and "passed its exam" in text and "gap inside the budget" in text
    for entry in report.entries:
        assert entry.audit.checkpoint in text and all(suite.digest in text for suite in entry.audit.suites)
        assert entry.verdict is None or entry.verdict.policy in text
    assert "5 unscored: the answer is empty" in text
    assert "sampling.temperature" in text.replace("&#95;", "_") and "stop " in text
    assert all(markdown.inert(row.text) in text for row in report.policy_summary)
    for pointer, target in (("under Provenance", "## Provenance"), ("under Budgets", "## Budgets")):
        assert pointer not in text or target in text
    assert "Read the answers above" not in text


def test_markdown_warns_first_and_names_no_policy_where_none_was_asked(report: ReportInput) -> None:
    entry = report.entries[0]
    suites = tuple(replace(suite, digest="e" * 64) if suite.name == "units" else suite for suite in entry.audit.suites)
    other = replace(report, entries=(replace(entry, audit=replace(entry.audit, suites=suites)), *report.entries[1:]))
    part = markdown.render(other).partition("## Measurements\n\n")[2]
    assert part.startswith("**Not all checkpoints were asked the same items of units: do not compare their values.**")
    alone = markdown.render(of_audits([entry.audit], None))
    assert "Policy" not in alone and "none**" not in alone and "1 checkpoint, made" in alone
    assert "Harmful requests answered" in alone and "## Verdict" not in alone and "## Budgets" not in alone


def test_markdown_prints_no_prompt_and_no_answer(report: ReportInput) -> None:
    entries = tuple(
        replace(
            entry,
            audit=replace(
                entry.audit,
                items=tuple(
                    replace(row, prompt="SECRET-PROMPT", answer="SECRET-ANSWER", note="SECRET-NOTE")
                    for row in entry.audit.items
                ),
            ),
        )
        for entry in report.entries
    )
    assert "SECRET" not in markdown.render(replace(report, entries=entries))
    assert "SECRET" not in markdown.render(of_audits([entries[1].audit], None))


def test_json_has_every_rule_and_no_text_of_items(report: ReportInput) -> None:
    value = json.loads(json.dumps(flat.data(report), allow_nan=False))
    assert value["schema"] == flat.SCHEMA == "alignmerge.report/2" and len(value["ranking"]) == len(report.merges)
    merged = {entry["label"]: entry for entry in value["entries"] if entry["role"] == "merge"}
    for entry in report.merges:
        assert entry.verdict is not None
        assert merged[entry.label]["verdict"]["decision"] == entry.verdict.decision
        assert len(merged[entry.label]["verdict"]["rules"]) == len(entry.verdict.rules)
        assert merged[entry.label]["skill_gained"]["low"] <= merged[entry.label]["skill_gained"]["value"]
    assert "Invented refusal request" not in json.dumps(value)


def numbers(value: object) -> list[float]:
    """Every number in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [one for part in value for one in numbers(part)]
    return [float(value)] if isinstance(value, int | float) else []


def test_json_has_every_number_that_the_page_prints(report: ReportInput) -> None:
    value = json.loads(json.dumps(flat.data(report), allow_nan=False))
    held = numbers(value)
    rounded = {digits: {f"{abs(one):.{digits}f}" for one in held} for digits in (2, 3, 4)}
    page = render(report, redact=True)
    for section in ("budgets", "comparison", "ranking", "judge", "toxicity", "aqi", "degeneration", "method"):
        part = re.search(rf'<section id="{section}".*?</section>', page, re.DOTALL)
        assert part is not None, section
        words = re.sub(r"<svg.*?</svg>", "", part[0], flags=re.DOTALL)
        shown = re.findall(r">[^<>\d]*(\d+\.\d{2,4})(?!\d)", words)
        missing = {text for text in shown if text not in rounded[len(text.partition(".")[2])]}
        assert shown and not missing, (section, missing)


def test_json_holds_what_is_decided_on_and_what_it_rests_on(report: ReportInput) -> None:
    value = flat.data(report)
    for entry, told in zip(report.entries, value["entries"], strict=True):
        assert [suite["items"] for suite in told["suites"]] == [suite.items for suite in entry.audit.suites]
        assert told["seed"] == entry.audit.seed and told["settings"]["sampling"] == entry.audit.sampling
        assert told["graders"]["judge"]["exam"]["pooled"]["value"] == 0.81 and len(told["aqi_weights"]) == 30
        log_j = next(row for row in told["metrics"] if row["metric"] == "aqi_log_j")
        assert log_j["detail"]["categories"]["fraud"]["pairs"] == 30 and log_j["standard_error"] == 0.047
        if entry.verdict is None:
            continue
        assert told["verdict"]["policy_digest"] == entry.verdict.policy
        for rule, row in zip(entry.verdict.rules, told["verdict"]["rules"], strict=True):
            assert (row["candidate"], row["anchor"]) == (rule.candidate, rule.anchor)
            assert rule.value is not None and row["margin"]["measured"] == pytest.approx(rule.limit - rule.value)
        card = next(one for one in verdicts.view(report).cards if one.label == entry.label)
        assert card.losses == "" or all(one in card.losses for one in told["losses"])
        assert (told["experts_alone"] or "") == card.experts
    assert value["rules"][0]["text"] == report.policy_summary[0].text
    solver = next(one for one in value["entries"] if one["label"] == "AlignMerge")
    assert len(solver["trace"]["steps"]) == 8


def test_json_holds_waivers_and_the_margin_of_a_floor(report: ReportInput) -> None:
    entry = report.merges[0]
    assert entry.verdict is not None
    use = WaiverUse("a floor", "f" * 64, "known", "Pat", "2026-01-01", "2026-02-01", True, "applied")
    floor = RuleResult("a floor", "refusal_rate", "block", "warn", "r", "rate", 0.7, 0.65, 0.9, 300, 0.7, waived=True)
    verdict = replace(entry.verdict, rules=(floor,), waivers=(use,), notes=("another engine",))
    value = flat.data(replace(report, entries=(report.entries[1], replace(entry, verdict=verdict))))
    told = value["entries"][1]["verdict"]
    assert (
        told["notes"] == ["another engine"]
        and told["waivers"][0]["approver"] == "Pat"
        and told["rules"][0]["waived"] is True
    )
    assert told["rules"][0]["margin"]["measured"] == pytest.approx(-0.2) and told["rules"][0]["must"] == "at least"


def test_merges_of_one_label_are_all_in_the_json(report: ReportInput) -> None:
    same = tuple(replace(one, label="same") if one.role == "merge" else one for one in report.entries)
    value = flat.data(replace(report, entries=same))
    counts = [[group["items"] for group in one["groups"]] for one in value["changed"]]
    assert len(counts) == len(report.merges) and len({tuple(one) for one in counts}) == len(counts)


def test_csv_has_a_row_per_item_and_metric(report: ReportInput) -> None:
    rows = list(csv.DictReader(io.StringIO(flat.items_csv(report))))
    assert len(rows) == sum(len(entry.audit.items) for entry in report.entries)
    first = report.entries[0].audit.items[0]
    assert rows[0]["prompt"] == first.prompt and float(rows[0]["value"]) == first.value


def test_J13_redacted_forms_hold_digests_only(report: ReportInput) -> None:
    page, table = render(report, redact=True), flat.items_csv(report, redact=True)
    for text in (page, table):
        assert "request number" not in text and "Here is an answer" not in text and "[sha256 " in text
    assert "request number" in render(report) and "request number" in flat.items_csv(report)


STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@pytest.mark.parametrize("blank", ["", " ", "\t", "\r", "\n", "\r\n", "\u00a0", "\u3000", "\n \t"])
@pytest.mark.parametrize("start", STARTS)
def test_J10_no_cell_is_a_formula(report: ReportInput, blank: str, start: str) -> None:
    text = f"{blank}{start}1+1"
    audit = report.entries[0].audit
    item = replace(audit.items[0], prompt=text, answer=text, note=text, category=text)
    small = replace(report, entries=(replace(report.entries[0], audit=replace(audit, items=(item,))),))
    [row] = csv.DictReader(io.StringIO(flat.items_csv(small)))
    for name in ("prompt", "answer", "note", "category"):
        assert not row[name].lstrip().startswith(STARTS)
        assert row[name].startswith("'") or "\r" in blank  # which is shown as an escape


def test_J04_J11_nothing_a_record_says_comes_to_life_in_markdown(report: ReportInput) -> None:
    bad = "[x](javascript:alert(1)) <script>|`*_ https://evil.example @team \x1b]8;;x\x07 ‮\n# head"
    text = markdown.render(replace(report, title=bad, notes=(bad,)))
    for live in ("<script", "](", "https://", "javascript:", "@team", "\x1b", "‮", "\n# head"):
        assert live not in text


def test_one_audit_is_a_report_of_its_own(report: ReportInput, tmp_path: Path) -> None:
    record.save(report.entries[1].audit, tmp_path / "audit")
    made = load([tmp_path / "audit"])
    page = render(made)
    assert "audit report" in page and 'id="comparison"' in page and 'id="provenance"' in page
    assert 'id="verdict"' not in page and "May ship" not in page and 'href="#verdict"' not in page
    run = CliRunner().invoke(command, [str(tmp_path / "audit"), "--format", "markdown"])
    assert run.exit_code == 0 and (tmp_path / "audit" / "report.md").read_text().startswith("# Audit of")


def test_audits_are_compared_with_the_anchor_given(report: ReportInput, tmp_path: Path) -> None:
    audits = [entry.audit for entry in report.entries]
    for index, audit in enumerate(audits[:3]):
        record.save(audit, tmp_path / str(index))
    made = load([tmp_path / "1", tmp_path / "2"], tmp_path / "0")
    assert [entry.role for entry in made.entries] == ["anchor", "merge", "merge"]
    assert "No policy was asked: nothing is decided here." in render(made)
    other = replace(audits[1], sampling={**audits[1].sampling, "digest": "f" * 64})
    with pytest.raises(RecordError):
        of_audits([other], audits[0])


def test_two_audits_of_one_name_keep_apart(report: ReportInput) -> None:
    audit = report.entries[0].audit
    assert len({entry.label for entry in of_audits([audit, audit], None).entries}) == 2


def test_where_many_are_named_the_file_must_be(report: ReportInput, tmp_path: Path) -> None:
    for index in range(2):
        record.save(report.entries[index].audit, tmp_path / str(index))
    run = CliRunner().invoke(command, [str(tmp_path / "0"), str(tmp_path / "1")])
    assert isinstance(run.exception, UsageError) and "-o" in str(run.exception)
    with pytest.raises(RecordError, match=r"no run\.json and no audit\.json"):
        load([tmp_path])


def test_markdown_and_json_say_the_cause_and_what_to_try_next(report: ReportInput) -> None:
    text, value = markdown.render(report), flat.data(report)
    told = {entry["label"]: entry for entry in value["entries"]}
    for card in verdicts.view(report).cards:
        assert (told[card.label]["cause"] or "", told[card.label]["next_step"] or "") == (card.cause, card.next_step)
        for line in (card.cause, card.next_step):
            assert not line or f"**: {markdown.inert(line)}." in text
    assert "- **Try next**: " in text and "- **Cause of the drift**: " in text
    assert "## Words used here" in text and "- **Not other questions.**" in text


def test_markdown_and_json_hold_the_blame(report: ReportInput) -> None:
    blamed = [entry for entry in report.merges if entry.blame is not None]
    text, value = markdown.render(report), flat.data(report)
    assert blamed and "## Where the drift comes from" in text
    told = {entry["label"]: entry["blame"] for entry in value["entries"]}
    for entry in blamed:
        assert entry.blame is not None
        assert len(told[entry.label]["finite"]["cells"]) == len(entry.blame.finite.cells)
    without = replace(report, entries=tuple(replace(entry, blame=None) for entry in report.entries))
    assert "Where the drift comes from" not in markdown.render(without)


def test_what_gate_wrote_is_shown_beside_the_audits(tmp_path: Path) -> None:
    older = Path(__file__).with_name("older")
    named = [str(older / "audits/merge"), "--anchor", str(older / "audits/anchor")]
    verdict, page = ["--verdict", str(older / "verdict.json")], ["-o", str(tmp_path / "page.html")]
    done = CliRunner().invoke(command, [*named, *verdict, *page, "--json"])
    assert done.exception is None and json.loads(done.output)["verdicts"] == {"linear soup": "FAIL"}
    shown = (tmp_path / "page.html").read_text()
    run = load([older])
    assert run.merges[0].verdict is not None
    assert (
        f"The merge linear soup may not ship under policy {run.merges[0].verdict.policy_name} "
        f"(digest {run.merges[0].verdict.policy[:12]})." in shown
    )
    assert '<section id="budgets"' in shown
    twice = load([older / "audits/merge"], older / "audits/anchor", [older / "verdict.json"] * 2)
    assert len(twice.merges[0].also) == 1
    alone = CliRunner().invoke(command, [named[0], *verdict, *page])
    assert isinstance(alone.exception, UsageError) and "--anchor" in str(alone.exception)
    whole = CliRunner().invoke(command, [str(older), *verdict, *page])
    assert isinstance(whole.exception, UsageError)
    for folder, anchor, words in (("anchor", "anchor", "which no audit named"), ("merge", "merge", "another anchor")):
        with pytest.raises(RecordError, match=words):
            load([older / "audits" / folder], older / "audits" / anchor, [older / "verdict.json"])
