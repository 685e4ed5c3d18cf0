"""What a page has room for: no estimate is too small, whatever the texts are, and small groups are whole."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.reports.loaded import of_audits
from alignmerge.reports.model import ReportInput
from alignmerge.reports.render import environment
from alignmerge.reports.room import allot, cost
from alignmerge.reports.sections import answers, readings

TEXTS = ["", "a word", "w " * 2000, "<\"&'>" * 300, "\u202e\U000e0100" * 900, "שלום 👩‍👩‍👧 " * 80, "line\n" * 90]


def written(report: ReportInput, sheets: object, name: str, redact: bool) -> int:
    """Bytes of the section's template for `sheets`."""
    return len(environment(redact).get_template(name).render(view=sheets, report=report).encode())


@pytest.mark.parametrize("redact", [False, True])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_J07_what_an_answer_takes_is_never_more_than_was_set_aside(
    report: ReportInput, text: str, redact: bool
) -> None:
    entries = []
    for entry in report.entries[1:2] + report.merges[:1]:
        items = tuple(
            replace(row, prompt=text, answer=text, category=text[:50], note=text if row.note else None)
            for row in entry.audit.items
            if row.item.endswith(("01", "02"))
        )
        entries.append(replace(entry, audit=replace(entry.audit, items=items)))
    compared = replace(report, entries=tuple(entries))
    alone = of_audits([entries[1].audit], None)
    for made, module in ((compared, answers), (alone, readings)):
        full, none = module.sheets(made, 10**9), module.sheets(made, 0)
        assert sum(sheet.omitted for sheet in full) == 0 < sum(sheet.omitted for sheet in none)
        room = 0
        while sum(sheet.omitted for sheet in module.sheets(made, room)):  # the least room that holds all of them
            room += 4000
        name = module.SECTION.template
        grown = written(made, full, name, redact) - written(made, none, name, redact)
        assert grown <= room
        assert redact or room - 4000 <= 1.6 * grown + 4000  # and not much less is shown than there is room for


@given(st.lists(st.lists(st.integers(1, 40), max_size=12), max_size=6), st.integers(0, 400))
def test_room_is_shared_by_turns(groups: list[list[int]], room: int) -> None:
    kept = allot(groups, lambda size: (size, size), room)
    assert [mine == whole[: len(mine)] for mine, whole in zip(kept, groups, strict=True)].count(False) == 0
    left = room - sum(map(sum, kept))
    assert left >= 0
    for mine, whole in zip(kept, groups, strict=True):
        # Nothing that would fit is left out.
        assert mine == whole or whole[len(mine)] > left


def test_a_small_group_is_whole_before_a_large_one_fills_the_page() -> None:
    assert allot([[1] * 100, [1, 1, 1], []], lambda size: (size, size), 10) == [[1] * 7, [1] * 3, []]


def test_an_answer_costs_more_with_remarks() -> None:
    assert cost(("a", "b"), ("c",), 2) > cost(("a", "b"), ("c",), 0)
