"""How far the kind of processor moves outcomes: two folders of the study's cells, measured on two machines.

    python benchmarks/processors.py benchmarks/results/study benchmarks/results/study_avx2

For every cell that both folders hold: how many items came out otherwise, the largest difference of a suite's rate, and
whether the checkpoint is the same to the byte.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.study import cells  # noqa: E402


def compared(one: cells.Cell, other: cells.Cell) -> dict[str, float | bool]:
    """items: how many both were asked; otherwise: how many outcomes differ; rate: the largest difference of a rate.

    Raises:
        ValueError: they were asked other items.
    """
    asked = [{name: found.items for name, found in each.suites.items()} for each in (one, other)]
    if asked[0] != asked[1]:
        raise ValueError(f"{one.method}: the two cells were asked other items")
    pairs = [(found, other.suites[name]) for name, found in one.suites.items()]
    moved = [abs(a.rate - b.rate) for a, b in pairs if a.rate is not None and b.rate is not None]
    return {
        "items": sum(len(a.bits) for a, _ in pairs),
        "otherwise": sum(x != y for a, b in pairs for x, y in zip(a.bits, b.bits, strict=True)),
        "rate": max(moved, default=0.0),
        "same_checkpoint": one.digest == other.digest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2)
    first, second = parser.parse_args().folders
    for path in sorted(second.rglob("*.json")):
        beside = first / path.relative_to(second)
        if path.parent == second or not beside.exists():
            continue
        found = compared(cells.read(beside), cells.read(path))
        same = "the same checkpoint" if found["same_checkpoint"] else "another checkpoint"
        print(
            f"{path.relative_to(second)}: {found['otherwise']} of {found['items']} items came out otherwise, "
            f"rates differ by at most {found['rate']:.4f}, {same}"
        )


if __name__ == "__main__":
    main()
