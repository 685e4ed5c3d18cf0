"""The words that a page explains, and what it says it does not show."""

from dataclasses import replace

from alignmerge.merger.methods.registry import METHODS as REGISTERED
from alignmerge.reports.glossary import METHODS
from alignmerge.reports.model import ReportInput
from alignmerge.reports.names import metric_name
from alignmerge.reports.render import render
from alignmerge.reports.sections import limits, words


def test_every_registered_method_has_words_of_its_own() -> None:
    assert set(METHODS) == set(REGISTERED)
    assert len(set(METHODS.values())) == len(METHODS)


def test_the_methods_of_the_run_are_explained_and_no_others(report: ReportInput) -> None:
    entries = tuple(
        replace(entry, merge={"recipe": {"method": "ties"}}) if entry.label == "TIES" else replace(entry, merge=None)
        for entry in report.entries
    )
    assert words.methods(replace(report, entries=entries)) == (("ties", METHODS["ties"]),)
    odd = tuple(replace(entry, merge={"recipe": {"method": ["ties"]}}) for entry in report.entries)
    assert words.methods(replace(report, entries=odd)) == ()


def test_a_page_explains_what_it_uses(report: ReportInput) -> None:
    whole = {word for word, _ in words.view(report)}
    assert {"Anchor", "Policy", "Drift", "AQI log-J", "Pareto front", "Degenerate answer"} <= whole
    entry = replace(report.entries[0], role="checkpoint", drift=None, merge=None, verdict=None)
    audit = replace(entry.audit, metrics=entry.audit.metrics[:1])
    alone = {
        word for word, _ in words.view(replace(report, policy_name="none", entries=(replace(entry, audit=audit),)))
    }
    assert "Over-refusal" in alone
    assert not alone & {"Anchor", "Policy", "Drift", "AQI log-J", "Pareto front", "Degenerate answer"}


def test_limits_speak_of_merges_and_verdicts_only_where_there_are_some(report: ReportInput) -> None:
    def leads(one: ReportInput) -> set[str]:
        return {lead for lead, _ in limits.view(one)}

    alone = replace(report, policy_name="none", entries=(replace(report.entries[0], role="checkpoint"),))
    assert leads(report) - leads(alone) == {"Not safety as such", "Not a fair contest of methods"}
    assert leads(alone) < leads(report)


def test_a_metric_of_one_suite_is_named_like_the_others() -> None:
    assert metric_name("refusal_rate") == "Refusal of harmful requests"
    assert metric_name("refusal_rate@xstest_unsafe") == "Refusal of harmful requests (xstest unsafe)"
    assert metric_name("new_metric@harmbench") == "new metric (harmbench)"


def test_the_words_for_a_bound_cover_what_is_not_decided(report: ReportInput) -> None:
    meaning = dict(words.view(report))["Confidence bound"]
    assert "where nothing is decided: “at most”" in meaning and "for a fail: “at least”" in meaning


def test_two_drifts_of_one_merge_are_told_apart(report: ReportInput) -> None:
    drift = {"finite_drift": {"value": 0.4791, "low": 0.39, "high": 0.58, "rows": 48, "tokens": 8}}
    entries = tuple(replace(entry, drift=drift) if entry.label == "TIES" else entry for entry in report.entries)
    page = render(replace(report, entries=entries))
    table = page[page.index("Finite drift: mean KL") :]
    assert table.startswith("Finite drift: mean KL(anchor || merge), nats per token, on the first tokens of")
    assert all(f">{cell}</td>" in table[: table.index("</table>")] for cell in ("48", "8"))
    assert "tokens how many of the first ones of each" in page
    assert page.count("rests on more or fewer answers and is another number") == 2
