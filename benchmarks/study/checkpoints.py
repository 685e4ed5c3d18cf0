"""Whether merges were made of the checkpoints that the cells of anchor and experts measured.

Training gives other bytes on another kind of processor, and a merge says nothing beside experts that it is not made of.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from alignmerge.errors import UsageError
from benchmarks.study.cells import Cell, read_all
from benchmarks.study.design import SETTINGS, ZOO


def measured(every: Iterable[Cell], setting: str, seed: int) -> dict[str, str]:
    """The digests that the cells of the setting's anchor and of the seed's experts measured, by what recipes say."""
    found: dict[str, str] = {}
    for one in (one for one in every if one.setting == setting):
        if one.kind == "anchor":
            found["anchor"] = one.digest
        elif one.kind == "expert" and one.seed == seed:
            found[SETTINGS[setting].expert(one.method.removeprefix("expert-"), seed, ZOO)] = one.digest
    return found


def others(inputs: Mapping[str, str], known: Mapping[str, str]) -> list[str]:
    """The names in `inputs` whose digest is not the one in `known`; a name that is not there is no other."""
    return [name for name, digest in inputs.items() if known.get(name, digest) != digest]


def check(inputs: Mapping[str, str], results: Path, setting: str, seed: int) -> None:
    """Nothing, where what is to be merged is what the cells in `results` measured.

    Raises:
        UsageError: the anchor or an expert is another checkpoint than its cell has.
    """
    other = others(inputs, measured(read_all(results), setting, seed))
    if other:
        raise UsageError(
            f"{other[0]}: not the checkpoint that its cell in {results} was measured on (training gives other bytes on "
            "another kind of processor); name another folder with --results, or remove the cells that it is in"
        )
