"""The reproducible stream of choices."""

from hypothesis import given
from hypothesis import strategies as st

from alignmerge.suites.draw import Draw


def test_the_stream_is_pinned() -> None:
    draw = Draw("key")
    assert [draw.integer(0, 99) for _ in range(6)] == [48, 59, 11, 63, 81, 16]


@given(st.text(max_size=8), st.integers(-50, 50), st.integers(0, 60))
def test_integers_stay_inside_their_bounds(key: str, low: int, width: int) -> None:
    draw = Draw(key)
    assert all(low <= draw.integer(low, low + width) <= low + width for _ in range(5))


@given(st.text(max_size=8), st.lists(st.integers(), unique=True, min_size=1, max_size=9))
def test_a_full_sample_is_a_permutation(key: str, options: list[int]) -> None:
    assert sorted(Draw(key).sample(options, len(options))) == sorted(options)
    assert Draw(key).sample(options, 1) == Draw(key).sample(options, 1)


def test_equal_keys_give_equal_streams_and_other_keys_other_streams() -> None:
    one, two, other = (Draw(key) for key in ("a", "a", "b"))
    streams = [[draw.integer(0, 10**9) for _ in range(4)] for draw in (one, two, other)]
    assert streams[0] == streams[1] != streams[2]
