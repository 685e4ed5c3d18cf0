"""Half a surrogate pair is refused where JSON is read: no file or digest could be made of it later."""

import pytest

from alignmerge import jsonio
from alignmerge.errors import RecordError


@pytest.mark.parametrize("text", [r'"\ud800"', r'{"a": ["x\udfff"]}', r'{"\uDC00": 1}', r'"\ud83dx\ude00"'])
def test_lone_surrogates_are_refused(text: str) -> None:
    with pytest.raises(RecordError, match=r"^here: not valid JSON"):
        jsonio.loads(text, "here")
    with pytest.raises(RecordError):
        jsonio.loads(text.encode())


def test_whole_pairs_and_escaped_backslashes_are_text() -> None:
    assert jsonio.loads(r'"\ud83d\ude00"') == "\U0001f600"
    assert jsonio.loads(r'"\\ud800"') == r"\ud800"
