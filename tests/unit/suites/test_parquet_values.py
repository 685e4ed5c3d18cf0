"""Values of Parquet that JSON has no word for: refused with row and column, where the column is read at all."""

import datetime
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from alignmerge.errors import RecordError
from alignmerge.suites.model import Suite
from alignmerge.suites.registry import get_suite

DAY = datetime.date(2026, 1, 2)


def suite_of(folder: Path, **columns: Any) -> Suite:
    parquet.write_table(pyarrow.table(columns), folder / "mine.parquet")
    return get_suite(str(folder / "mine.parquet"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"4", "holds bytes"),
        (DAY, "holds a date"),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "holds a datetime"),
        (datetime.timedelta(1), "holds a timedelta"),
        (float("nan"), "holds nan, which is no number"),
        (float("inf"), "holds inf, which is no number"),
        ([4.0, float("-inf")], "holds -inf, which is no number"),
        ([b"4"], "holds bytes"),
    ],
)
def test_an_answer_that_is_no_json_value(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(RecordError, match=rf"mine\.parquet: row 1: column 'answer' {said}"):
        suite_of(tmp_path, prompt=["2 + 2?"], answer=[value])


def test_a_value_inside_an_object(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="row 1: column 'constraints' holds a date"):
        suite_of(tmp_path, prompt=["Write."], constraints=[[{"kind": "ends_with", "phrase": DAY}]])


def test_a_decimal_is_the_number_it_is(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, prompt=["2 + 2?", "A lot?"], answer=[Decimal("4.00"), Decimal("12345678901234567.89")])
    assert [item.reference["answer"] for item in suite.items("test")] == ["4", "12345678901234567.89"]


def test_a_column_that_is_not_read_may_hold_anything(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, prompt=["2 + 2?"], answer=["4"], day=[DAY], raw=[b"x"], score=[float("nan")])
    assert [item.reference for item in suite.items("test")] == [{"answer": "4"}]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_reading_leaves_no_thread_that_could_abort_the_process(tmp_path: Path) -> None:
    suite_of(tmp_path, prompt=["2 + 2?"], answer=["4"])
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom pyarrow import parquet\n"
        "from alignmerge.suites.rows import read_table\n"
        "before = len(os.listdir('/proc/self/task'))\nread_table(Path(sys.argv[1]))\n"
        "print(len(os.listdir('/proc/self/task')) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "mine.parquet")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"
