"""Who spent a drift, in words: shares are never overstated, and the method is no expert."""

import pytest

from alignmerge.policies.fixes import METHOD, Spender, blamed, culprits


def cells(**shares: float) -> list[Spender]:
    """Each contributor's share over layers 0 to 9, all of it in layer 4."""
    return [Spender(name, layer, share if layer == 4 else 0.0) for name, share in shares.items() for layer in range(10)]


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (cells(a=0.6, b=0.4), "mostly expert a (most of it in layer 4)"),
        (cells(a=0.4, b=0.3, c=0.3), "40 % of the drift by expert a (most of it in layer 4)"),
        (
            cells(a=0.3, b=0.3, method=0.4),
            "40 % of the drift by the method itself, then 30 % by expert b (most of it in layer 4)",
        ),
        (
            cells(a=0.2, method=0.8),
            "mostly the method itself, then 20 % of the drift by expert a (most of it in layer 4)",
        ),
        (cells(a=0.3, b=0.5, method=0.2), "mostly expert b (most of it in layer 4)"),
        (cells(a=0.3, b=0.3, method=0.3, c=0.1), "30 % of the drift by expert b (most of it in layer 4)"),
        (cells(a=-0.1, method=1.1), "mostly the method itself"),
        (cells(method=1.0), "mostly the method itself"),
        (cells(a=-0.1), ""),
        ([], ""),
    ],
)
def test_who_spent_most(spent: list[Spender], words: str) -> None:
    assert blamed(spent) == words


def test_parts_are_of_the_whole_drift_also_where_some_is_taken_back() -> None:
    found = culprits(cells(a=0.9, b=-0.4, method=0.5))
    assert found is not None and METHOD == "method"
    assert (found.expert, found.part, found.method) == ("a", pytest.approx(0.9), pytest.approx(0.5))


def test_layers_far_apart_are_searched_as_fast_as_near_ones() -> None:
    far = [Spender("a", 0, 0.1), Spender("a", 5_000_000, 0.5), Spender("a", 5_000_002, 0.2), Spender("a", 10**9, 0.2)]
    assert blamed(far) == "mostly expert a (most of it in layers 5000000-5000002)"
