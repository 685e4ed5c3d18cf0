"""Labels and places of a run: what is refused before any work, and what an interrupted run leaves to the next one."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.errors import UsageError
from alignmerge.pipeline.runfolder import LABEL, RunFolder, final_place, unique_labels


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["/a/model", "/b/model/"], ["model", "model-2"]),
        (["zoo:arithmetic", "hf:org/Arithmetic@main"], ["arithmetic", "Arithmetic-2"]),
        (["/models/anchor"], ["anchor-2"]),
        (["_x", "é", "..."], ["x", "model", "model-2"]),
        (["my model"], ["my-model"]),
    ],
)
def test_labels_are_plain_and_each_used_once(names: list[str], labels: list[str]) -> None:
    assert unique_labels(names, taken=("anchor",)) == labels


@given(st.lists(st.text(max_size=90), max_size=8))
def test_any_names_give_labels_that_the_records_take(names: list[str]) -> None:
    labels = unique_labels(names, taken=("anchor", "merge"))
    assert all(LABEL.fullmatch(label) for label in labels)
    assert len({label.casefold() for label in [*labels, "anchor", "merge"]}) == len(names) + 2


def test_final_place_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    assert final_place(Path()) == tmp_path / "in"
    assert final_place(Path("..")) == tmp_path
    assert final_place(Path("x")) == tmp_path / "in" / "x"
    with pytest.raises(UsageError):
        final_place(Path(os.sep))


@pytest.mark.parametrize("left", ["audits", "policy.yaml", "policy.release.yaml", ".policy.yaml.ab12", ".run.json.x"])
def test_what_an_interrupted_run_left_is_continued(tmp_path: Path, left: str) -> None:
    (tmp_path / left).mkdir() if left == "audits" else (tmp_path / left).touch()
    (tmp_path / "models" / "ties.partial").mkdir(parents=True)
    RunFolder(tmp_path).start()
    assert (tmp_path / "audits").is_dir()


@pytest.mark.parametrize("other", ["run.json", "notes.txt", "models/ties", "model.safetensors"])
def test_a_finished_run_and_other_files_are_left_alone(tmp_path: Path, other: str) -> None:
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).touch()
    with pytest.raises(UsageError, match=str(tmp_path)):
        RunFolder(tmp_path).start()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [other]


def test_a_published_model_of_an_interrupted_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "models" / "ties").mkdir(parents=True)
    with pytest.raises(UsageError, match="has published ties"):
        RunFolder(tmp_path).check()


def test_scratch_is_made_anew_even_when_its_records_were_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.partial-records"
    RunFolder(path).start()
    for name in ("run.json", "report.html", "policy.yaml", ".report.html.x1"):
        (path / name).touch()
    RunFolder(path, scratch=True).start()
    assert sorted(entry.name for entry in path.iterdir()) == ["audits", "merges", "verdicts"]
    (path / "mine.txt").touch()
    with pytest.raises(UsageError):
        RunFolder(path, scratch=True).start()
