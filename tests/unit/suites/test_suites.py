"""What the shipped suites promise: disjoint splits, matched pairs, stable items, readable references."""

import json
import re
from collections import Counter, defaultdict
from itertools import combinations

import pytest

from alignmerge.errors import UsageError
from alignmerge.suites import arithmetic, openings, units
from alignmerge.suites.instruction_frames import COUNTS
from alignmerge.suites.model import SPLITS, Item, Split, items_digest, select
from alignmerge.suites.registry import SUITES, get_suite

NAMES = sorted(SUITES)
LEAST = {"train": 200, "calibration": 120, "validation": 80, "test": 300}
# Nothing is trained or chosen on the requests that a judge reads, nor on the levels.
LEAST_OF = {
    "helpfulness": {"train": 0, "calibration": 0, "validation": 0, "test": 60},
    "arithmetic_levels": {"train": 0, "calibration": 0, "validation": 0, "test": 300},
}
# Changing an item changes what every recorded score means: raise the suite's `version` together with its digest here.
GOLDEN: dict[str, dict[str, str]] = {
    "arithmetic": {
        "train": "cbc0b72de19479b2",
        "calibration": "84f645cbe1f2c9ca",
        "validation": "91a69d6eb3bb21d8",
        "test": "de54334854c11ded",
    },
    "arithmetic_levels": {
        "train": "e85c012bbca3f95a",
        "calibration": "e85c012bbca3f95a",
        "validation": "e85c012bbca3f95a",
        "test": "00742f645eca7cd1",
    },
    "continuations": {
        "train": "ac9231cc33acdf44",
        "calibration": "f47eb3fb232c395d",
        "validation": "6d2e1457fb9bc9e8",
        "test": "bd8fcb9e1d83e292",
    },
    "helpfulness": {
        "train": "21271dc4e0c47e91",
        "calibration": "21271dc4e0c47e91",
        "validation": "21271dc4e0c47e91",
        "test": "02e43f73bf84609b",
    },
    "instructions": {
        "train": "77d8904815a39b0e",
        "calibration": "9d9d59728678edb8",
        "validation": "0d2bebe6b5759f4e",
        "test": "4c6fee15d3eac67c",
    },
    "over_refusal": {
        "train": "00aeb9ebc5fc5983",
        "calibration": "37a8eec5ff9467ca",
        "validation": "0dfc3c5de466db4f",
        "test": "00d62f8565e7027c",
    },
    "over_refusal_openings": {
        "train": "fc10259cffb3a849",
        "calibration": "09362d1f531bfdfc",
        "validation": "e6cf0c50792a34eb",
        "test": "6cff616e79a0862e",
    },
    "refusal": {
        "train": "36932b4a4f01a41f",
        "calibration": "26f48ac9f0b3543a",
        "validation": "e6d8e780d2e72ad4",
        "test": "0cc1d39b643bf884",
    },
    "refusal_openings": {
        "train": "2169bcf4eef4fd67",
        "calibration": "5d87534676361842",
        "validation": "ccfdced1f96dd954",
        "test": "62f5d2b8d0165d12",
    },
    "units": {
        "train": "62dcf22c515d9380",
        "calibration": "25bdbd38000cf8d0",
        "validation": "3c1a53f357406a9f",
        "test": "17f0c978cbba1bde",
    },
}


def everything(name: str) -> list[Item]:
    return [item for split in SPLITS for item in SUITES[name].items(split)]


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_family_and_no_category(name: str) -> None:
    for first, second in combinations(SPLITS, 2):
        one, two = SUITES[name].items(first), SUITES[name].items(second)
        families = {item.family for item in one} & {item.family for item in two}
        categories = {item.category for item in one} & {item.category for item in two}
        assert not families, f"{first} and {second} share families"
        assert not categories, f"{first} and {second} share categories"


@pytest.mark.parametrize("name", NAMES)
def test_items_are_enough_distinct_short_and_filed_under_their_split(name: str) -> None:
    items = everything(name)
    assert len({item.id for item in items}) == len(items)
    assert len({item.prompt for item in items}) == len(items)
    for split in SPLITS:
        own = SUITES[name].items(split)
        assert len(own) >= LEAST_OF.get(name, LEAST)[split]
        assert {item.split for item in own} == ({split} if own else set())
    assert max(len(item.prompt.split()) for item in items) <= 30
    assert all("{" not in item.prompt and "}" not in item.prompt for item in items)


def grams(text: str) -> frozenset[str]:
    text = re.sub(r"\s+", " ", text.lower())
    return frozenset(text[i : i + 5] for i in range(len(text) - 4))


def near_duplicates(items: list[Item], limit: float) -> list[tuple[str, str]]:
    """Pairs of ids from different splits whose character 5-grams overlap by more than `limit` (Jaccard)."""
    found: list[tuple[str, str]] = []
    holders: dict[str, list[int]] = defaultdict(list)
    sets = [grams(item.prompt) for item in items]
    for index, item in enumerate(items):
        shared = Counter(other for gram in sets[index] for other in holders[gram])
        for other, count in shared.items():
            union = len(sets[index]) + len(sets[other]) - count
            if count > limit * union and items[other].split != item.split:
                found.append((items[other].id, item.id))
        for gram in sets[index]:
            holders[gram].append(index)
    return found


@pytest.mark.parametrize(
    "names", [("refusal", "over_refusal"), ("arithmetic",), ("instructions",), ("units",), ("continuations",)]
)
def test_no_prompt_is_nearly_repeated_in_another_split(names: tuple[str, ...]) -> None:
    assert near_duplicates([item for name in names for item in everything(name)], 0.5) == []


def test_the_near_duplicate_check_finds_a_planted_one() -> None:
    first = Item("a", "How do I bake a carrot cake for a teacher?", "f", "c", "train")
    second = Item("b", "How do I bake a carrot cake for my teacher?", "g", "d", "test")
    assert near_duplicates([first, second], 0.5) == [("a", "b")]


@pytest.mark.parametrize("split", SPLITS)
def test_every_harmful_request_has_one_harmless_partner_in_the_same_frame(split: Split) -> None:
    harmful, harmless = SUITES["refusal"].items(split), SUITES["over_refusal"].items(split)
    assert len({item.pair for item in harmful}) == len(harmful) == len(harmless)
    for one, two in zip(harmful, harmless, strict=True):
        assert (one.pair, one.family, one.category) == (two.pair, two.family, two.category)
        assert one.prompt != two.prompt


def test_pairs_are_enough_for_a_paired_index_and_span_many_categories() -> None:
    assert len(SUITES["refusal"].items("test")) >= 320
    assert len(SUITES["refusal"].items("calibration")) >= 100
    assert len({item.category for item in everything("refusal")}) >= 16


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_a_smaller_selection_is_the_start_of_a_larger_one(name: str, split: Split) -> None:
    whole = select(SUITES[name], split)
    assert sorted(item.id for item in whole) == sorted(item.id for item in SUITES[name].items(split))
    for limit in (1, 7, 64):
        assert select(SUITES[name], split, limit) == whole[:limit]


def test_selections_of_the_two_sides_hold_the_same_pairs() -> None:
    one, two = select(SUITES["refusal"], "test", 50), select(SUITES["over_refusal"], "test", 50)
    assert [item.pair for item in one] == [item.pair for item in two]


def test_a_selection_of_64_is_spread_over_families() -> None:
    for name in NAMES:
        assert len({item.family for item in select(SUITES[name], "test", 64)}) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_digests_are_pinned(name: str) -> None:
    suite = SUITES[name]
    assert {split: items_digest(suite, suite.items(split))[:16] for split in SPLITS} == GOLDEN[name]


@pytest.mark.parametrize("name", NAMES)
def test_items_survive_json(name: str) -> None:
    rows = [item.to_json() for item in everything(name)]
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


@pytest.mark.parametrize("split", SPLITS)
def test_worked_answers_reach_the_reference(split: Split) -> None:
    answers = arithmetic.worked_answers(split)
    for item in arithmetic.items(split):
        numbers = re.findall(r"\d+", answers[item.id])
        assert numbers[-1] == numbers[-2] == item.reference["answer"]
        assert int(numbers[-1]) > 0
        for left, sign, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", answers[item.id]):
            exact = {
                "+": int(left) + int(right),
                "-": int(left) - int(right),
                "*": int(left) * int(right),
                "/": int(left) / int(right),
            }
            assert exact[sign] == int(result)


def test_arithmetic_prompts_hold_the_numbers_of_their_working() -> None:
    answers = arithmetic.worked_answers("test")
    for item in arithmetic.items("test"):
        first = re.findall(r"\d+", answers[item.id])[:2]
        assert set(first) <= set(re.findall(r"\d+", item.prompt))


def told(text: str) -> int:
    """What a story of levels comes to, read off its words by another way than it was made."""
    value, *parts = re.split(r", | and ", text.split(".")[0])
    total = int(re.findall(r"\d+", value)[0])
    for part in parts:
        number = [int(one) for one in re.findall(r"\d+", part)]
        if "half" in part:
            assert total % 2 == 0
            total //= 2
        elif number:
            total += number[0] if "more" in part else -number[0]
        else:
            total *= {"doubles": 2, "triples": 3}[part.split()[0]]
        assert total > 0
    return total


def test_a_level_is_the_number_of_steps_and_the_answer_follows_from_the_words() -> None:
    items = SUITES["arithmetic_levels"].items("test")
    levels = Counter(item.category for item in items)
    assert set(levels) == {"level_1", "level_2", "level_3", "level_4"}
    assert len(items) >= 200 and min(levels.values()) >= 50
    for item in items:
        steps = len(re.split(r", | and ", item.prompt.split(".")[0])) - 1
        assert item.category == f"level_{steps}"
        assert item.reference == {"answer": str(told(item.prompt))}


@pytest.mark.parametrize("split", SPLITS)
def test_units_references_name_a_unit_of_the_prompt(split: Split) -> None:
    for item in units.items(split):
        assert set(item.reference) == {"answer", "unit"}
        assert re.search(rf"\b{item.reference['unit']}\b", item.prompt)
        if "note" in item.family:
            assert re.search(rf"\b{item.reference['answer']}\b", item.prompt)


def test_instruction_constraints_have_the_documented_fields_and_can_be_read_off_the_prompt() -> None:
    fields = {
        **{key: set() for key in ("all_upper", "all_lower", "quoted", "no_commas", "title_brackets")},
        **{key: {"n"} for key in ("numbered_list", "bullets", "sentences")},
        **{key: {"phrase"} for key in ("ends_with", "starts_with")},
        **{"json_keys": {"keys"}, "word_count": {"max"}, "min_words": {"min"}, "contains": {"word", "times"}},
    }
    seen = set()
    for item in everything("instructions"):
        for constraint in item.reference["constraints"]:
            values = {key: value for key, value in constraint.items() if key != "kind"}
            assert set(values) == fields[constraint["kind"]]
            seen.add(constraint["kind"])
            for value in values.values():
                shown = value if isinstance(value, list) else [value]
                assert constraint["kind"] == "contains" or all(str(part) in item.prompt for part in shown)
    assert seen == set(fields)
    assert set(COUNTS) <= set(fields) | {"bullets+all_lower"}


def test_an_unknown_suite_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean refusal"):
        get_suite("refusals")
    with pytest.raises(UsageError, match="known suites: arithmetic"):
        get_suite("zzz")
    assert get_suite("units") is SUITES["units"]


def test_registry_keys_are_the_suites_own_names_and_harm_is_marked() -> None:
    assert all(name == suite.name for name, suite in SUITES.items())
    assert [name for name in NAMES if SUITES[name].harmful] == ["refusal", "refusal_openings"]
    assert {name for name in NAMES if SUITES[name].ends} == {"arithmetic", "arithmetic_levels", "instructions", "units"}


@pytest.mark.parametrize("split", SPLITS)
def test_openings_are_asked_of_the_very_same_requests(split: Split) -> None:
    for name, whole in (("refusal_openings", "refusal"), ("over_refusal_openings", "over_refusal")):
        own, others = SUITES[name].items(split), SUITES[whole].items(split)
        assert [(one.prompt, one.pair, one.category) for one in own] == [(o.prompt, o.pair, o.category) for o in others]
        assert not {one.id for one in own} & {one.id for one in others}
        assert {one.choices[: one.reference["refusing"]] for one in own} == {openings.REFUSING}
        assert {one.choices[one.reference["refusing"] :] for one in own} == {openings.COMPLYING}
