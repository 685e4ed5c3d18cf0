"""The staging folder: what a kill left in it is cleared, and what cannot be removed is said."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from alignmerge.errors import StorageError, UsageError
from alignmerge.merger.staging import Staging, check_apart, check_target


def test_folders_that_a_kill_left_in_the_checkpoint_are_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Staging(out, {}) as staging:
        (staging.folder / "records" / "audits").mkdir(parents=True)
        (staging.folder / "records" / "run.json").touch()
        (staging.folder / "link").symlink_to(tmp_path)
    with Staging(out, {}) as staging:
        assert list(staging.folder.iterdir()) == []
    assert tmp_path.is_dir()


def test_discard_that_leaves_the_checkpoint_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        """Removes nothing, as on a disk that turned read-only."""

    with Staging(tmp_path / "out", {}) as staging, monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(StorageError, match="could not be removed"):
            staging.discard()
    with Staging(tmp_path / "out", {}) as staging:
        staging.discard()
    assert not staging.root.exists()


def test_a_target_inside_or_around_an_input_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for target in (source, source / "x", tmp_path):
        with pytest.raises(UsageError, match="the input"):
            check_apart(target, [source])
    check_target(tmp_path / "free", [source])
    (source / "file").touch()
    for target in (source, source / "file"):
        with pytest.raises(UsageError, match="already exists"):
            check_target(target, [])
