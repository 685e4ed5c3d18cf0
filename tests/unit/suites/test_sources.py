"""Where a suite's rows are: what `--data` names is read, or refused."""

from pathlib import Path

import pytest

from alignmerge.errors import EndpointError, StorageError, UsageError
from alignmerge.pipeline.audit_plan import AuditPlan
from alignmerge.suites.registry import get_suite
from alignmerge.suites.sources import parse_data


def write(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text('{"prompt": "2 + 2?", "answer": "4"}\n')
    return path


def test_data_for_a_suite_that_is_not_asked_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no suite of that name is asked"):
        AuditPlan(suites=("refusal",), data=parse_data((f"gsm8k={write(tmp_path)}",))).resolved()
    for wrong in ("gsm8k", "=x", "a="):
        with pytest.raises(UsageError, match="write NAME=PATH"):
            parse_data((wrong,))


def test_data_that_nothing_would_read_is_refused(tmp_path: Path) -> None:
    for name, suite in (("refusal", "refusal"), ("rows", str(write(tmp_path)))):
        for key in (name, f"{name}.shots"):
            with pytest.raises(UsageError, match=f"--data {key}=nowhere.csv: the suite"):
                get_suite(suite, {key: "nowhere.csv"})
        assert get_suite(suite, {"other": "nowhere.csv"}).name == name


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        ("hf:openai/gsm8k@main", UsageError, "the commit in 40 hexadecimal digits"),
        (f"hf:other/set@{'a' * 40}", UsageError, "the definition is of openai/gsm8k"),
        (f"hf:openai/gsm8k@{'a' * 40}", EndpointError, "cannot be loaded .*--data NAME=PATH"),
        ("nowhere.jsonl", UsageError, "no such file"),
        ("nowhere.xlsx", UsageError, "a suite's data is a file ending in"),
    ],
)
def test_a_hub_reference_offline_and_missing_files(reference: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        get_suite("gsm8k", {"gsm8k": reference})
    assert EndpointError.exit_code == StorageError.exit_code == 6
