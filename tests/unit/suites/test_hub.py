"""A data set of the hub is read at the commit that was named, or not at all, and the record names the commit."""

import json
from pathlib import Path

import pytest

from alignmerge.auditor import record
from alignmerge.cli import main
from alignmerge.errors import EndpointError, UsageError
from alignmerge.suites.definition import Hub, load_definition, ready
from alignmerge.suites.hub import hub_table
from alignmerge.suites.registry import get_suite

ONE, TWO = "a" * 40, "b" * 40
ROWS = "".join(json.dumps({"question": f"What is {n} + {n}?", "answer": f"#### {n + n}"}) + "\n" for n in range(3))
HUBS = [name for name, path in ready().items() if load_definition(path).hub is not None]


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(str(ended.value.code))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of openai/gsm8k at commit ONE where `datasets` keeps what it has loaded, and no way to the hub."""
    import datasets
    from datasets.packaged_modules.json.json import Json

    cache = tmp_path / "copies"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    (tmp_path / "rows.jsonl").write_text(ROWS)
    files = {"test": [str(tmp_path / "rows.jsonl")]}
    builder = Json(cache_dir=str(cache), dataset_name="gsm8k", config_name="main", hash=ONE, data_files=files)
    builder.download_and_prepare()
    place = cache / "openai___gsm8k" / "main" / "0.0.0"
    place.mkdir(parents=True)
    Path(builder.cache_dir).rename(place / ONE)


@pytest.mark.usefixtures("copy")
def test_a_copy_of_another_commit_is_not_taken_for_the_one_named() -> None:
    suite = get_suite("gsm8k", {"gsm8k": f"hf:openai/gsm8k@{ONE}"})
    assert len(suite.items("test")) == 3
    assert f"hf:openai/gsm8k@{ONE} (sha256 " in str(suite.source)
    with pytest.raises(EndpointError, match=f"hf:openai/gsm8k@{TWO[:12]}: only something else is at hand"):
        get_suite("gsm8k", {"gsm8k": f"hf:openai/gsm8k@{TWO}"})


def test_a_folder_of_its_name_is_not_taken_for_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some" / "set").mkdir(parents=True)
    (tmp_path / "some" / "set" / "test.jsonl").write_text(ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EndpointError, match="a folder some/set where this runs"):
        hub_table(Hub("some/set", "test"), ONE)


@pytest.mark.usefixtures("copy", "empty_cache")
def test_the_record_of_an_audit_holds_the_commit(tmp_path: Path, tiny_checkpoint: Path) -> None:
    data = ("--suite", "gsm8k", "--data", f"gsm8k=hf:openai/gsm8k@{ONE}")
    assert run("audit", str(tiny_checkpoint), *data, "--limit", "2", "-o", str(tmp_path / "out")) == 0
    assert any(
        note.startswith(f"suite gsm8k: hf:openai/gsm8k@{ONE} (sha256 ") for note in record.load(tmp_path / "out").notes
    )


@pytest.mark.parametrize("name", HUBS)
def test_without_a_commit_nothing_is_opened_and_one_line_says_how_to_name_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = load_definition(ready()[name]).hub
    assert hub is not None
    monkeypatch.setattr("datasets.load_dataset_builder", lambda *_, **__: pytest.fail("the hub was asked"))
    for more in ((), ("--data", f"{name}=hf:{hub.id}"), ("--data", f"{name}=hf:{hub.id}@main")):
        assert run("audit", "no-such-model", "--suite", name, *more, "-o", str(tmp_path / "out")) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"hf:{hub.id}@COMMIT" in error
        assert "no-such-model" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("revision", ["main", "v1.0", ONE[:12], ONE.upper(), "refs/convert/parquet"])
def test_a_definition_that_pins_a_name_is_refused_and_one_that_pins_a_commit_is_read(
    revision: str, tmp_path: Path, copy: None
) -> None:
    path = tmp_path / "mine.yaml"
    shipped = ready()["gsm8k"].read_text()
    path.write_text(shipped.replace("split: test}", f"split: test, revision: '{revision}'}}"))
    with pytest.raises(UsageError, match=rf"mine\.yaml:9: hub: revision: '{revision}' is not a commit in 40"):
        get_suite(str(path))
    path.write_text(shipped.replace("split: test}", f"split: test, revision: '{ONE}'}}"))
    assert f"@{ONE} " in str(get_suite(str(path)).source)
