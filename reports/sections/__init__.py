"""The sections of a report in a reviewer's order. A new one: a module, its template, a row here, a test."""

from alignmerge.reports.sections import (
    answers,
    aqi,
    blamed,
    budgets,
    comparison,
    decision,
    degeneration,
    further,
    judge,
    limits,
    method,
    provenance,
    ranked,
    readings,
    toxicity,
    verdicts,
    words,
)
from alignmerge.reports.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    verdicts.SECTION,
    budgets.SECTION,
    comparison.SECTION,
    ranked.SECTION,
    answers.SECTION,
    readings.SECTION,
    blamed.SECTION,
    aqi.SECTION,
    toxicity.SECTION,
    judge.SECTION,
    degeneration.SECTION,
    method.SECTION,
    decision.SECTION,
    further.SECTION,
    provenance.SECTION,
    words.SECTION,
    limits.SECTION,
)
