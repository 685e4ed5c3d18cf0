"""items.jsonl: the fast writer against the canonical one, and what the fast reader must not let through."""

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignmerge import jsonio
from alignmerge.auditor import item_rows
from alignmerge.auditor.record import ItemScore, _items, _reader
from alignmerge.errors import IntegrityError, RecordError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROW = ItemScore("s", "i", "m", 0.5, None, "prompt", "answer", "stop", "c")


@given(TEXT, TEXT, st.floats(allow_nan=False, allow_infinity=False) | st.none(), st.none() | TEXT)
def test_a_row_has_the_bytes_of_its_canonical_form(
    prompt: str, answer: str, value: float | None, note: str | None
) -> None:
    row = replace(ROW, prompt=prompt, answer=answer, value=value, unscored=answer if value is None else None, note=note)
    fields = asdict(row)
    if note is None:
        del fields["note"]
    assert item_rows.line(row) == jsonio.canonical(fields)
    assert _reader(ItemScore)(item_rows.line(row), "x") == row


def read(folder: Path, data: bytes) -> tuple[ItemScore, ...]:
    path = folder / "items.jsonl"
    path.write_bytes(data)
    return _items(path, hashlib.sha256(data).hexdigest())


def test_rows_in_order_carry_the_digest_of_their_file(tmp_path: Path) -> None:
    rows = [replace(ROW, item=name) for name in "abc"]
    data = item_rows.content(rows[::-1])
    found = read(tmp_path, data)
    assert found == tuple(rows)
    assert isinstance(found, item_rows.Rows)
    assert item_rows.digest(found) == hashlib.sha256(data).hexdigest() == item_rows.digest(rows)


@pytest.mark.parametrize("odd", ["order", "blank", "integer", "no end"])
def test_rows_in_another_form_are_digested_anew(odd: str, tmp_path: Path) -> None:
    one, two = (item_rows.line(replace(ROW, item=name)) for name in "ab")
    data = {
        "order": two + b"\n" + one + b"\n",
        "blank": one.replace(b'"m"', b' "m"') + b"\n",
        "integer": one.replace(b":0.5", b":1") + b"\n",
        "no end": one,
    }[odd]
    found = read(tmp_path, data)
    assert not isinstance(found, item_rows.Rows)
    assert item_rows.digest(found) != hashlib.sha256(data).hexdigest()
    assert item_rows.digest(found) == hashlib.sha256(item_rows.content(found)).hexdigest()


@pytest.mark.parametrize("twice", [b'"value":0.5,"value":1.0', b'"value" :0.5,"value":1.0', b'"value":1.0,"value":0.5'])
def test_a_key_that_is_there_twice_is_refused(twice: bytes, tmp_path: Path) -> None:
    good = item_rows.line(ROW) + b"\n"
    with pytest.raises(RecordError, match=r"items\.jsonl:2: not valid JSON: duplicate key 'value'"):
        read(tmp_path, good + good.replace(b'"value":0.5', twice))


def test_another_file_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not the items"):
        _items(tmp_path / "items.jsonl", "0" * 64)
    nothing = hashlib.sha256(b"").hexdigest()
    assert _items(tmp_path / "items.jsonl", nothing) == ()


ODD = {
    "two on a line": item_rows.line(ROW) + b"," + item_rows.line(ROW) + b"\n",
    "an array's end": item_rows.line(ROW) + b"],[\n",
    "blank": b"\n",
    "not a number": item_rows.line(ROW).replace(b":0.5", b":NaN") + b"\n",
    "infinite": item_rows.line(ROW).replace(b":0.5", b":1e999") + b"\n",
    "a text": item_rows.line(ROW).replace(b":0.5", b':"0.5"') + b"\n",
    "twice": item_rows.line(ROW).replace(b'"value":0.5', b'"value":0.5,"value":0.5') + b"\n",
    "not text": item_rows.line(ROW).replace(b'prompt","suite', b'\xff","suite') + b"\n",
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("before", [0, 1, item_rows.BATCH - 1, item_rows.BATCH, item_rows.BATCH + 3])
def test_an_odd_line_is_named_wherever_it_stands(odd: str, before: int, tmp_path: Path) -> None:
    lines = [item_rows.line(replace(ROW, item=f"{at:04d}")) + b"\n" for at in range(before + 2)]
    with pytest.raises(RecordError, match=rf"items\.jsonl:{before + 1}: "):
        read(tmp_path, b"".join([*lines[:before], ODD[odd], *lines[before:]]))


def test_rows_of_many_batches_are_all_there_whatever_their_form(tmp_path: Path) -> None:
    rows = [replace(ROW, item=f"{at:05d}", answer="a\n\t\u2028é" * (at % 3)) for at in range(2 * item_rows.BATCH + 7)]
    data = item_rows.content(rows)
    assert read(tmp_path, data) == tuple(rows)
    assert isinstance(read(tmp_path, data), item_rows.Rows)
    spaced = data.replace(b'"item":"00700"', b'"item": "00700"')
    assert read(tmp_path, spaced) == tuple(rows)
    assert not isinstance(read(tmp_path, spaced), item_rows.Rows)
