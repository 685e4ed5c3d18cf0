"""Every constraint kind: one answer that keeps it, several that do not."""

import pytest

from alignmerge.auditor.engines.base import Completion
from alignmerge.auditor.scorers.instructions import INSTRUCTIONS, VERIFIERS, verifier
from alignmerge.suites.model import Item
from alignmerge.suites.registry import SUITES

CASES: dict[str, tuple[dict[str, object], list[str], list[str]]] = {
    "all_upper": ({}, ["ROSES ARE RED!", "A1"], ["Roses", "ROSEs", "123", ""]),
    "all_lower": ({}, ["roses are red!"], ["Roses", "123", ""]),
    "numbered_list": (
        {"n": 2},
        ["1. a\n2. b", "Here:\n1) a\n2) b"],
        ["1. a", "1. a\n3. b", "1. a\n2. b\n3. c", "- a\n- b"],
    ),
    "bullets": ({"n": 2}, ["- a\n- b", "* a\n\u2022 b"], ["- a", "- a\n- b\n- c", "1. a\n2. b", "-a\n-b"]),
    "json_keys": (
        {"keys": ["title", "kind"]},
        ['{"title": 1, "kind": null}', '```json\n{"title": "a", "kind": "b", "c": 1}\n```'],
        ['{"title": 1}', "[1]", '"title kind"', '{"title": 1, "kind": 2', "[" * 100_000, ""],
    ),
    "ends_with": (
        {"phrase": "That is all."},
        ["Fine. That is all.", "that is ALL. \n"],
        ["That is all. Bye", "That is all"],
    ),
    "starts_with": (
        {"phrase": "Of course,"},
        ["Of course, yes", "\n of course, no"],
        ["Yes. Of course,", "Of course yes"],
    ),
    "word_count": ({"max": 3}, ["one two three", "one"], ["one two three four", "", "  "]),
    "min_words": ({"min": 3}, ["one two three"], ["one two", ""]),
    "quoted": ({}, ['"A line."', "\u201cA line.\u201d"], ['"A line.', "A line", '""', '" "']),
    "no_commas": ({}, ["one two"], ["one, two", ""]),
    "contains": (
        {"word": "simple", "times": 2},
        ["Simple is simple."],
        ["simple", "simple simple simple", "simpler simple"],
    ),
    "title_brackets": ({}, ["<<A Day>>", "Here: <<A>> ok"], ["<A Day>", "<<>>", "<<a\nb>>"]),
    "sentences": ({"n": 2}, ["One. Two!", "It is 3.5 m. Yes?", "One. Two"], ["One.", "One. Two. Three.", ""]),
}


def score(text: str, *constraints: object, finish: str = "stop") -> object:
    item = Item("i", "p", "f", "c", "test", reference={"constraints": list(constraints)})
    return INSTRUCTIONS.score(item, Completion((1,), text, finish))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", VERIFIERS)
def test_kept_and_broken(kind: str) -> None:
    knobs, kept, broken = CASES[kind]
    for text in kept:
        assert score(text, {"kind": kind, **knobs}).value == 1.0, text  # type: ignore[attr-defined]
    for text in broken:
        assert score(text, {"kind": kind, **knobs}).value == 0.0, text  # type: ignore[attr-defined]


def test_all_constraints_must_hold() -> None:
    both = [{"kind": "bullets", "n": 2}, {"kind": "all_lower"}]
    assert [score(text, *both).value for text in ("- a\n- b", "- A\n- b", "a b")] == [1.0, 0.0, 0.0]  # type: ignore[attr-defined]


def test_a_cut_off_answer_keeps_nothing() -> None:
    assert score("ROSES", {"kind": "all_upper"}, finish="length").value == 0.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "constraint", [{"kind": "rhymes"}, {}, "all_upper", {"kind": "bullets"}, {"kind": "bullets", "n": "x"}]
)
def test_what_cannot_be_verified_is_unscored(constraint: object) -> None:
    for finish in ("stop", "length"):
        found = score("- a", constraint, finish=finish)
        assert found.value is None  # type: ignore[attr-defined]
        assert found.unscored  # type: ignore[attr-defined]


def test_no_constraints_are_unscored() -> None:
    assert score("x").unscored  # type: ignore[attr-defined]


def test_every_kind_the_shipped_suite_asks_for_is_verified() -> None:
    kinds = {
        constraint["kind"]
        for split in ("train", "calibration", "validation", "test")
        for item in SUITES["instructions"].items(split)
        for constraint in item.reference["constraints"]
    }
    assert kinds <= set(VERIFIERS)


def test_a_kind_is_registered_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        verifier("quoted")(lambda text, constraint: True)
