"""What `merge --policy` says of its verdict: who spent most of a failed budget, where a blame is there."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignmerge import jsonio
from alignmerge.commands.merge import _show
from alignmerge.errors import RecordError
from alignmerge.pipeline.ungated import Merged

made = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "exports/made.py")))
CELLS = [{"contributor": "units", "layer": layer, "share": 0.4 if layer == 3 else 0.01} for layer in range(8)]
FAILED = made.verdict("FAIL", made.rule("fail", anchor=0.9, candidate=0.8))


def test_a_merge_that_fails_names_who_spent_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = Merged(made.DIGEST, made.DIGEST, FAILED, None, tmp_path)
    _show(done, False, {})
    assert "; it is over by 0.050\n" in capsys.readouterr().out
    jsonio.write(tmp_path / "blame.json", {"finite": {"cells": CELLS}})
    _show(done, False, {})
    assert "; it is over by 0.050, mostly expert units (most of it in layer 3)\n" in capsys.readouterr().out


def test_a_blame_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blame.json").write_text("{")
    with pytest.raises(RecordError, match=r"blame\.json"):
        _show(Merged(made.DIGEST, made.DIGEST, FAILED, None, tmp_path), False, {})
