"""All merge methods by name. A new method is one file beside this one and one entry in METHODS."""

from alignmerge.errors import RecipeError
from alignmerge.merger.methods.alignmerge import ALIGNMERGE
from alignmerge.merger.methods.base import MergeMethod, unknown
from alignmerge.merger.methods.linear import LINEAR
from alignmerge.merger.methods.task_arithmetic import TASK_ARITHMETIC
from alignmerge.merger.methods.ties import TIES

METHODS: dict[str, MergeMethod] = {method.name: method for method in (LINEAR, TASK_ARITHMETIC, TIES, ALIGNMERGE)}


def get(name: str) -> MergeMethod:
    """The method called `name`.

    Raises:
        RecipeError: there is none; names the nearest.
    """
    if name not in METHODS:
        raise RecipeError(unknown("method", name, METHODS))
    return METHODS[name]
