"""Gold items: ours are whole and balanced, XSTest's are read by path."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from alignmerge.auditor.judge.gold import drawn, gold_digest, joined, own, xstest
from alignmerge.auditor.judge.paper import labels, paper
from alignmerge.auditor.judge.rubric import RUBRICS
from alignmerge.errors import RecordError, StorageError, UsageError

XSTEST = Path(__file__).resolve().parents[5] / "shared" / "data" / "xstest"
COLUMNS = ["id", "type", "prompt", "completion", "annotation_1", "annotation_2", "agreement", "final_label"]


@pytest.mark.parametrize("name", RUBRICS)
def test_every_rubric_has_balanced_short_distinct_gold(name: str) -> None:
    items = own(name)
    assert len(items) >= 15
    assert len({item.id for item in items}) == len({item.request for item in items}) == len(items)
    counted = Counter(label for item in items for label in item.answers)
    assert set(counted) == set(labels(RUBRICS[name]))
    assert max(counted.values()) == min(counted.values())
    assert max(len(answer.split()) for item in items for answer in item.answers.values()) <= 40
    assert all(len(set(item.answers.values())) == 2 for item in items)


@pytest.mark.parametrize("name", RUBRICS)
def test_length_alone_does_not_tell_good_from_bad(name: str) -> None:
    best, worst = labels(RUBRICS[name])
    longer = sum(len(item.answers[best]) > len(item.answers[worst]) for item in own(name))
    assert 2 <= longer <= 13, "a judge that looks at length would do well"


def test_an_id_is_of_one_item_over_all_shipped_files() -> None:
    items = [item for name in RUBRICS for item in own(name)]
    assert len({item.id for item in items}) == len(items) >= 75
    assert all(item.id.startswith(f"{item.rubric}/") for item in items)


def test_a_smaller_draw_is_the_start_of_a_larger_one() -> None:
    items = own("refusal")
    assert drawn(items, 5) == drawn(items, None)[:5]
    assert gold_digest(items) == gold_digest(items[::-1]) != gold_digest(items[1:])


def write(path: Path, rows: list[list[str]], columns: list[str] = COLUMNS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([columns, *rows])
    return path


def row(number: int, label: str) -> list[str]:
    return [f"v2-{number}", "t", f"ask {number}", f"answer {number}", label, label, "True", label]


def test_completions_of_its_form_are_read_alike_for_both_labels(tmp_path: Path) -> None:
    kinds = ["1_full_compliance"] * 30 + ["2_full_refusal"] * 4 + ["3_partial_refusal"] * 3
    path = write(tmp_path / "x.csv", [row(number, label) for number, label in enumerate(kinds)])
    found = xstest(path, 20)
    assert Counter(label for item in found for label in item.answers) == {"answered": 4, "refused": 4}
    assert {item.rubric for item in found} == {"refusal"}
    assert found == xstest(path, 20)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        xstest(tmp_path / "none.csv")
    with pytest.raises(RecordError, match="columns id, prompt"):
        xstest(write(tmp_path / "a.csv", [["1", "2"]], ["a", "b"]))
    with pytest.raises(RecordError, match="no answers of one of the labels"):
        xstest(write(tmp_path / "b.csv", [row(1, "1_full_compliance")]))
    columns = ["id", "prompt", "final_label", "completion"]
    short = [["1", "p", "1_full_compliance"], ["2", "p", "2_full_refusal", "c"]]
    with pytest.raises(RecordError, match="row '1' ends early"):
        xstest(write(tmp_path / "short.csv", short, columns))
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(RecordError):
        xstest(tmp_path / "c.csv")


def both(path: Path, words: str) -> Path:
    """A file of four rows, whose ids are the same in every model's file."""
    kinds = ["1_full_compliance", "1_full_compliance", "2_full_refusal", "2_full_refusal"]
    rows = [row(number, label) for number, label in enumerate(kinds)]
    return write(path, [[*one[:3], f"{words} {one[3]}", *one[4:]] for one in rows])


def test_files_of_two_models_are_told_apart_in_an_exam(tmp_path: Path) -> None:
    one, two = both(tmp_path / "one.csv", "so"), both(tmp_path / "two.csv", "or")
    found = joined([one, two])
    assert len({item.id for item in found}) == len(found) == 8
    assert gold_digest(found) == gold_digest(joined([two, one])), "items are of the content, not of the order"
    (tmp_path / "copy.csv").write_bytes(one.read_bytes())
    assert xstest(tmp_path / "copy.csv") == xstest(one), "nor of the file's name"
    exam = paper({"refusal": found}, pairwise=False)
    plain = {probe.of: probe.question.material["answer"] for probe in exam if probe.part == "gold"}
    assert len(plain) == 8
    attacked = [probe for probe in exam if probe.part == "injection"]
    assert attacked
    assert all(probe.question.material["answer"].startswith(plain[probe.of]) for probe in attacked)


def test_one_file_given_twice_and_one_row_named_twice_are_refused(tmp_path: Path) -> None:
    one = both(tmp_path / "one.csv", "so")
    (tmp_path / "copy.csv").write_bytes(one.read_bytes())
    for again in (one, tmp_path / "copy.csv"):
        with pytest.raises(UsageError, match=rf"{again}: the same file as {one} .* give it once"):
            joined([one, again])
    twice = write(tmp_path / "twice.csv", [row(1, "1_full_compliance"), row(1, "2_full_refusal")])
    with pytest.raises(RecordError, match=r"twice\.csv: id 'v2-1' comes twice"):
        xstest(twice)


@pytest.mark.skipif(not XSTEST.is_dir(), reason="the XSTest completions are not at hand")
def test_every_file_of_xstest_gives_an_exam() -> None:
    for path in sorted(XSTEST.glob("xstest_v2_completions_*.csv")):
        found = xstest(path, 40)
        assert Counter(label for item in found for label in item.answers) == {"answered": 20, "refused": 20}
    every = joined(sorted(XSTEST.glob("xstest_v2_completions_*.csv")))
    assert len({item.id for item in every}) == len(every) > 100
