"""Strict YAML: what is read, what is refused, and at which line."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge.errors import PolicyError, RecipeError
from alignmerge.yamlio import load, load_document, parse


def read(text: str) -> Any:
    return parse(text.encode(), Path("f.yaml"), RecipeError).value


def test_core_schema_scalars() -> None:
    text = "a: 1e-3\nb: no\nc: 2026-01-01\nd: ~\ne: true\nf: '1'\ng: -.5\nh: 010\ni: 1_000\nj: +3\nk: 'null'\nl:"
    assert read(text) == {
        "a": 0.001,
        "b": "no",
        "c": "2026-01-01",
        "d": None,
        "e": True,
        "f": "1",
        "g": -0.5,
        "h": 10,
        "i": "1_000",
        "j": 3,
        "k": "null",
        "l": None,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max: 0.1\nmax: 0.9", r"f\.yaml:2: duplicate key 'max', first on line 1"),
        ("a: 1\nb: &x 2", r"f\.yaml:2: anchors"),
        ("a: *x", "anchors"),
        ("a: !!python/object/apply:os.system ['x']", "tags are not used"),
        ("a: !!str 3", "tags are not used"),
        ("a: .nan", r"\.nan is not a number"),
        ("a: -.INF", "not a number"),
        ("a: 1e999", "too large"),
        ("a: " + "9" * 19, "18 digits"),
        ("[" * 5000, "nested deeper"),
        ("---\na: 1\n---\nb: 2", r"f\.yaml:3: a second"),
        ("", "empty file"),
        ("# only a comment\n", "empty file"),
        ("a:\n\t- x", r"f\.yaml:2: not valid YAML"),
        ("1: x", "a key must be text"),
        ("[a]: x", "a key must be text"),
        ("<<: {a: 1}", "merge keys"),
        ("a: \x07", "not valid YAML"),
        ("a: [1,", "not valid YAML"),
    ],
)
def test_refused_with_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(text)


def test_alias_bomb_is_refused_at_once() -> None:
    bomb = "a: &a [x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{('*' + chr(97 + i) + ', ') * 9}x]\n" for i in range(9)
    )
    start = time.monotonic()
    with pytest.raises(RecipeError, match="anchors"):
        read(bomb)
    assert time.monotonic() - start < 1


def test_files_size_bom_missing_and_error_class(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load(path) == {"a": 1}
    path.write_bytes(b"a: " + b"x" * 100)
    with pytest.raises(PolicyError, match="larger than 50 bytes"):
        load(path, PolicyError, limit_bytes=50)
    path.write_bytes(b"a: \xff\n")
    with pytest.raises(PolicyError, match="not UTF-8 at byte 3"):
        load(path, PolicyError)
    with pytest.raises(PolicyError, match="not a file"):
        load(tmp_path / "missing.yaml", PolicyError)


def test_lines_point_at_every_part(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("rules:\n  - name: a\n    max: 1\n  - name: b\n")
    document = load_document(path)
    assert document.where(("rules", 0, "max")) == f"{path}:3"
    assert document.where(("rules", 1)) == f"{path}:4"
    assert document.where(("rules", 0, "missing", "deep")) == f"{path}:2"
    assert document.where(()) == f"{path}:1"


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcXYZ_1.~"), inner, max_size=4),
    max_leaves=12,
)


@given(plain)
def test_json_is_read_as_the_same_value(value: Any) -> None:
    assert read(json.dumps(value, ensure_ascii=False)) == value
