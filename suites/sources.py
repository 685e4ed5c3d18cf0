"""From what a user names to a suite: a definition's name, a definition's file, or a file of rows.

`data` says where rows are: NAME -> a path, or hf:org/name@COMMIT; NAME.shots -> a path with worked examples.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignmerge.errors import UsageError
from alignmerge.suites.definition import Choices, Columns, Definition, load_definition, ready
from alignmerge.suites.hub import hub_table, revision_of
from alignmerge.suites.imported import imported
from alignmerge.suites.model import NAME, Suite
from alignmerge.suites.rows import ENDINGS, Table, read_table

DEFAULT_NEW_TOKENS = 128
DEFINITION_ENDINGS = (".yaml", ".yml")


def is_file(name: str) -> bool:
    """Whether a suite's name is the path of a definition or of rows."""
    return Path(name).suffix in (*DEFINITION_ENDINGS, *ENDINGS) and name not in ready()


def open_suite(name: str, data: Mapping[str, str]) -> Suite:
    """The suite that a ready definition, a definition's file or a file of rows makes.

    Raises:
        UsageError: the definition is not valid, or its rows are nowhere.
        RecordError, IntegrityError: the rows are not what the definition says.
        StorageError, EndpointError: the rows cannot be read.
    """
    if Path(name).suffix in ENDINGS:
        return _plain_file(Path(name), data)
    path = ready().get(name, Path(name))
    definition = load_definition(path)
    table, origin = _rows(definition, path, data)
    shots = data.get(f"{definition.name}.shots")
    if definition.shots and shots is None:
        definition = replace(definition, shots=0)
    if shots is not None and not definition.shots:
        raise UsageError(f"{definition.name}.shots: the definition says nothing of worked examples (`shots: N`)")
    return imported(definition, table, origin, read_table(Path(shots), definition.rows) if shots else None)


def _rows(definition: Definition, path: Path, data: Mapping[str, str]) -> tuple[Table, str]:
    named, hub = data.get(definition.name), definition.hub
    if named is not None and not named.startswith("hf:"):
        return read_table(Path(named), definition.rows, definition.files), Path(named).name
    if named is None and definition.file is not None:
        return read_table(path.parent / definition.file, definition.rows, definition.files), definition.file
    if hub is None:
        raise UsageError(f"suite {definition.name}: its rows are not known: give --data {definition.name}=PATH")
    revision = revision_of(named, hub) if named is not None else hub.revision
    if revision is None:
        raise UsageError(
            f"suite {definition.name} brings no data: give --data {definition.name}=PATH, or "
            f"--data {definition.name}=hf:{hub.id}@COMMIT with the commit that you checked (none is pinned here)"
        )
    return hub_table(hub, revision), f"hf:{hub.id}@{revision}"


def refuse_data(name: str, data: Mapping[str, str], why: str) -> None:
    """Nothing, where `data` says nothing of the suite called `name`.

    Raises:
        UsageError: it names rows, or worked examples, that would not be read.
    """
    for key in (name, f"{name}.shots"):
        if key in data:
            raise UsageError(f"--data {key}={data[key]}: {why}; leave it out, or ask a definition (docs/suites.md)")


def _plain_file(path: Path, data: Mapping[str, str]) -> Suite:
    """Rows with the columns `prompt`, optionally `id` and `category`, and what says how answers are read.

    `choices` and `answer`: by likelihood. `constraints`: format constraints. `answer`: the expected answer or number.
    None of them: only what every suite is read for, and graders.
    """
    name = re.sub(r"[^a-z0-9_-]+", "_", path.stem.lower()).strip("_-")
    if not NAME.fullmatch(name):
        raise UsageError(f"{path}: rename the file: a suite is called 1 to 64 of a-z, 0-9, _ and -")
    refuse_data(name, data, f"the suite is the rows of {path.name}")
    table = read_table(path)
    columns = set(table.rows[0].values) if table.rows else set()
    scorer = next((kind for key, kind in _READ_BY.items() if key in columns), "graders")
    reference = {"answer": "answer"} if scorer in ("choices", "match") else {}
    reference |= {"constraints": "constraints"} if scorer == "instructions" else {}
    given: dict[str, Any] = {"choices": Choices(column="choices")} if scorer == "choices" else {}
    definition = Definition(
        name=name,
        summary=f"Rows of {path.name}, read by {scorer}.",
        columns=Columns(prompt="text" if path.suffix == ".txt" else "prompt", reference=reference),
        scorer=scorer,
        max_new_tokens=DEFAULT_NEW_TOKENS,
        **given,
    )
    return imported(definition, table, path.name)


_READ_BY = {"choices": "choices", "constraints": "instructions", "answer": "match"}


def parse_data(pairs: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """`NAME=PATH` texts as pairs.

    Raises:
        UsageError: one is not of this form, or a name comes twice.
    """
    out: dict[str, str] = {}
    for text in pairs:
        name, mark, place = text.partition("=")
        if not mark or not name or not place:
            raise UsageError(f"--data {text}: write NAME=PATH")
        if name in out:
            raise UsageError(f"--data {name}: given twice")
        out[name] = place
    return tuple(out.items())
