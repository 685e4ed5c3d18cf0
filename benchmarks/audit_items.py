"""The items of benchmarks/audit.py: questions with a number as answer and choices of four, also as tasks of lm-eval."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.suites.arithmetic import SUITE
from alignmerge.suites.draw import Draw
from alignmerge.suites.model import select

LETTERS = ("A", "B", "C", "D")
NUMBER = r"(-?[$0-9.,]{2,})|(-?[0-9]+)"
GENERATE = """
task: generated
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["<|im_end|>"], do_sample: false, max_gen_toks: {tokens}}}
filter_list:
  - name: last-number
    filter:
      - {{function: regex, group_select: -1, regex_pattern: '{number}'}}
      - {{function: take_first}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true, regexes_to_ignore: [",", "\\\\$", "\\\\.$"]}}
"""
CHOOSE = """
task: chosen
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: {letters}
doc_to_target: answer
target_delimiter: ""
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


def problems(file: Path | None, count: int) -> list[dict[str, Any]]:
    """Word problems with a numeric answer: of a GSM8K file by path, else of the shipped suite."""
    if file is None:
        return [
            {"question": item.prompt, "answer": str(item.reference["answer"])} for item in select(SUITE, "test", count)
        ]
    rows = [jsonio.loads(line, str(file)) for line in file.read_text(encoding="utf-8").splitlines()]
    rows.sort(key=jsonio.digest)
    return [{"question": row["question"], "answer": row["answer"].split("####")[-1].strip()} for row in rows[:count]]


def choices(file: Path | None, count: int) -> list[dict[str, Any]]:
    """Four choices and the place of the right one: of an MMLU file by path, else sums."""
    if file is not None:
        with file.open(encoding="utf-8", newline="") as handle:
            rows = sorted(csv.DictReader(handle), key=jsonio.digest)[:count]
        texts = [[row[f"choice{place}"] for place in range(4)] for row in rows]
        return [
            _asked(row["question"].strip(), text, int(row["answer"])) for row, text in zip(rows, texts, strict=True)
        ]
    out = []
    for number in range(count):
        draw = Draw(f"benchmark/choices/{number}")
        a, b, place = draw.integer(11, 99), draw.integer(11, 99), draw.integer(0, 3)
        out.append(_asked(f"What is {a} + {b}?", [str(a + b + 10 * (i - place)) for i in range(4)], place))
    return out


def _asked(question: str, texts: Sequence[str], answer: int) -> dict[str, Any]:
    shown = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=True))
    return {"question": f"{question}\n{shown}\nAnswer:", "answer": answer}


def last_number(text: str, answer: str) -> float:
    """1.0 when the last number of `text` is `answer`, by the rules of the task file."""
    found = re.findall(NUMBER, text)
    last = next((part for part in found[-1] if part), "") if found else "[invalid]"
    return float(_cleaned(last) == _cleaned(answer))


def _cleaned(text: str) -> str:
    for pattern in (",", r"\$", r"\.$"):
        text = re.sub(pattern, "", text)
    return text


def write_tasks(folder: Path, rows: dict[str, list[dict[str, Any]]], tokens: int) -> None:
    for kind, items in rows.items():
        file = folder / f"{kind}.jsonl"
        file.write_bytes(b"".join(jsonio.canonical(row) + b"\n" for row in items))
        template = GENERATE if kind == "generated" else CHOOSE
        text = template.format(file=file, tokens=tokens, number=NUMBER, letters=list(LETTERS))
        (folder / f"{kind}.yaml").write_text(text, encoding="utf-8")
