"""All shipped suites by name."""

import difflib
from collections.abc import Mapping

from alignmerge.errors import UsageError
from alignmerge.suites import (
    arithmetic,
    arithmetic_levels,
    continuations,
    helpfulness,
    instructions,
    openings,
    over_refusal,
    refusal,
    units,
)
from alignmerge.suites.definition import ready
from alignmerge.suites.model import Suite
from alignmerge.suites.sources import is_file, open_suite, refuse_data

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        refusal.SUITE,
        over_refusal.SUITE,
        arithmetic.SUITE,
        instructions.SUITE,
        units.SUITE,
        continuations.SUITE,
        helpfulness.SUITE,
        arithmetic_levels.SUITE,
        openings.HARMFUL,
        openings.HARMLESS,
    )
}


def get_suite(name: str, data: Mapping[str, str] | None = None) -> Suite:
    """The suite called `name`: one of ours, a ready definition, or the path of a definition or of a file of rows.

    `data` says where a definition's rows are (suites/sources.py).

    Raises:
        UsageError: there is none; the message names the nearest ones. Or its data is nowhere.
        RecordError, IntegrityError, StorageError, EndpointError: its data is not what it should be, or not there.
    """
    if name in SUITES:
        refuse_data(name, data or {}, "the suite brings its items")
        return SUITES[name]
    if name in ready() or is_file(name):
        suite = open_suite(name, data or {})
        if suite.name in SUITES:
            raise UsageError(f"{name}: {suite.name!r} is the name of a shipped suite; choose another")
        return suite
    names = [*SUITES, *ready()]
    near = difflib.get_close_matches(name, names, n=2)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else f"known suites: {', '.join(sorted(SUITES))}; with your data: {', '.join(ready())}"
    )
    raise UsageError(f"no suite {name!r}; {hint}")
