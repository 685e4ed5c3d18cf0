"""Rows of a data set on the hub, at one pinned revision. `datasets` is imported here alone, and only when called.

`datasets` is asked what it found before its rows are taken: it prefers a folder of the data set's name that lies where
it runs, and without a network it takes the newest copy that it has, of whatever commit.
"""

import re
from pathlib import Path
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import EndpointError, RecordError, UsageError
from alignmerge.suites.definition import COMMIT, Hub
from alignmerge.suites.rows import MAX_ROWS, Row, Table

REFERENCE = re.compile(rf"hf:([A-Za-z0-9][\w.-]*/[\w.-]+)@({COMMIT.pattern})")


def revision_of(reference: str, hub: Hub) -> str:
    """The commit that `hf:org/name@COMMIT` names.

    Raises:
        UsageError: not of this form, or of another data set than the definition's.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UsageError(f"{reference}: a data set is named hf:{hub.id}@COMMIT, the commit in 40 hexadecimal digits")
    if match[1] != hub.id:
        raise UsageError(f"{reference}: the definition is of {hub.id}; write a definition for another data set")
    return match[2]


def hub_table(hub: Hub, revision: str) -> Table:
    """The rows of a split at a revision; the SHA-256 is over the rows in their canonical form.

    Raises:
        EndpointError: the hub cannot be reached, or has no such data set, configuration, split or revision; or
            something else was found in its place.
        RecordError: too many rows, or values that are no JSON.
    """
    place = f"hf:{hub.id}@{revision[:12]}"
    import datasets

    try:
        builder = datasets.load_dataset_builder(hub.id, hub.config, revision=revision)
        if builder.hash != revision:
            raise EndpointError(
                f"{place}: only something else is at hand: a folder {hub.id} where this runs, or a copy of another "
                "commit; go elsewhere and let the hub be reached, or name a file of your own with --data NAME=PATH"
            )
        builder.download_and_prepare()
        found = builder.as_dataset(split=hub.split)
    except EndpointError:
        raise
    except Exception as error:  # the library raises what its many back ends raise
        first = (str(error).splitlines() or [""])[0]
        raise EndpointError(
            f"{place}: cannot be loaded ({type(error).__name__}: {first}); "
            "get the file yourself and name it with --data NAME=PATH"
        ) from None
    if len(found) > MAX_ROWS:
        raise RecordError(f"{place}: more than {MAX_ROWS} rows")
    rows = []
    for number, values in enumerate(found, 1):
        rows.append(Row(f"{place}: row {number}", number, _plain(dict(values)), Path(hub.id).name))
    try:
        digest = jsonio.digest([row.values for row in rows])
    except (TypeError, ValueError) as error:
        raise RecordError(f"{place}: holds values that are no JSON: {error}") from None
    return Table(tuple(rows), digest)


def _plain(value: Any) -> Any:
    """Numbers of array libraries as Python's own."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.item() if hasattr(value, "item") and not isinstance(value, str | bytes) else value
