"""Suites made from rows: a definition and a table in, items out. Pure but for the table that is handed in.

A row that cannot be an item is refused with its place, and so is a second item of one id: a suite that silently asks
less than it says is not the suite it says it is. What a definition itself leaves out (`where`, `skip`) is counted.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from alignmerge import jsonio
from alignmerge.errors import IntegrityError, RecordError
from alignmerge.suites.choices import options_of
from alignmerge.suites.constraints import constraint_fault
from alignmerge.suites.definition import Definition
from alignmerge.suites.model import Item, Split, Suite
from alignmerge.suites.rows import Row, Table, cell, written

MAX_PROMPT_CHARACTERS = 100_000
FILE = "$file"
OPTIONS = "options"
_PLACE = re.compile(r"\{(\w+)\}")


def imported(definition: Definition, table: Table, origin: str, shots: Table | None = None) -> Suite:
    """The suite of a definition's rows. `origin` says where they came from; `shots` are rows for worked examples.

    Raises:
        RecordError: a row is no item (the message names its place), two items have one id, or none is left.
        IntegrityError: the definition names another SHA-256 than the file has.
    """
    if definition.sha256 is not None and definition.sha256 != table.sha256:
        raise IntegrityError(
            f"{origin}: its SHA-256 is {table.sha256}, the definition {definition.name} names {definition.sha256}; "
            "restore the file, or change the definition if the data was meant to change"
        )
    examples = _examples(definition, shots)
    items, left_out = list[Item](), 0
    seen: dict[str, str] = {}
    with_id = sum(1 for row in table.rows if definition.columns.id is None and row.values.get("id") is not None)
    column = definition.columns.id or ("id" if with_id else None)
    for row in table.rows:
        item = _item(definition, row, column, examples) if _wanted(definition, row) else None
        if item is None:
            left_out += 1
            continue
        if item.id in seen:
            raise RecordError(f"{row.place}: id {item.id!r} is taken by {seen[item.id]}; ids must differ")
        seen[item.id] = row.place
        items.append(item)
    if not items:
        raise RecordError(f"{origin}: no row is an item of {definition.name} ({left_out} left out); check `where`")
    body = {"definition": _identity(definition), "sha256": table.sha256, "shots": shots.sha256 if shots else None}
    return _suite(definition, tuple(items), f"{definition.version}+{jsonio.digest(body)[:16]}", origin, table, left_out)


def _suite(
    definition: Definition, items: tuple[Item, ...], version: str, origin: str, table: Table, left_out: int
) -> Suite:
    def own(split: Split) -> tuple[Item, ...]:
        return items if split == definition.split else ()

    dropped = f", {left_out} rows left out by the definition" if left_out else ""
    return Suite(
        name=definition.name,
        version=version,
        summary=definition.summary,
        items=own,
        metrics=definition.metrics,
        max_new_tokens=definition.max_new_tokens,
        harmful=definition.harmful,
        ends=definition.ends,
        kind=definition.use.kind,
        source=f"{origin} (sha256 {table.sha256}{dropped})",
    )


def _identity(definition: Definition) -> dict[str, Any]:
    """What of a definition items and their reading depend on."""
    choices = definition.choices
    return {
        "name": definition.name,
        "columns": vars(definition.columns),
        "scorer": definition.scorer,
        "prompt": definition.prompt,
        "where": definition.where,
        "choices": vars(choices) if choices else None,
        "shots": definition.shots,
        "graded": definition.graded,
        # Left out where ready definitions have it so, from before it was told apart: their versions stay.
        **({} if definition.ends == (definition.scorer == "gsm8k") else {"ends": definition.ends}),
    }


def _wanted(definition: Definition, row: Row) -> bool:
    for name, allowed in definition.where.items():
        value = cell(row, name)
        if value not in allowed if isinstance(allowed, list) else value != allowed and str(value) != str(allowed):
            return False
    skip = definition.choices.skip if definition.choices else ()
    return _category(definition, row) not in skip


def _category(definition: Definition, row: Row) -> str:
    name = definition.columns.category
    if name is None:
        return _label(row, "category") if "category" in row.values else definition.name
    return row.file if name == FILE else _label(row, name)


def _label(row: Row, name: str) -> str:
    """An id or a category: a number is one too."""
    value = cell(row, name)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(row, name)


def _text(row: Row, name: str) -> str:
    value = cell(row, name)
    if not isinstance(value, str):
        raise RecordError(f"{row.place}: column {name!r} is {type(value).__name__}, not text")
    value = value.replace("\r\n", "\n")
    if not value.strip():
        raise RecordError(f"{row.place}: column {name!r} is empty")
    if len(value) > MAX_PROMPT_CHARACTERS:
        raise RecordError(
            f"{row.place}: column {name!r} has {len(value)} characters, more than {MAX_PROMPT_CHARACTERS}"
        )
    return value


def _question(definition: Definition, row: Row) -> str:
    names = definition.columns.prompt
    if isinstance(names, list):
        found = [name for name in names if name in row.values]
        if not found:
            raise RecordError(f"{row.place}: has none of the columns {', '.join(names)}")
        names = found[0]
    return _text(row, names)


def _item(
    definition: Definition, row: Row, id_column: str | None, examples: Mapping[str, Sequence[str]]
) -> Item | None:
    question, category = _question(definition, row), _category(definition, row)
    if id_column:
        own = _label(row, id_column)
    else:
        own = f"{row.file}:{row.number:05d}" if definition.columns.category == FILE else f"{row.number:05d}"
    reference = {key: cell(row, name) for key, name in definition.columns.reference.items()}
    choices: tuple[str, ...] = ()
    shown = ""
    if definition.choices is not None:
        found = options_of(definition.choices, row, question, category, reference["answer"])
        if found is None:
            return None
        choices, shown, reference["answer"] = found.choices, found.shown, found.answer
    prompt = _filled(definition, row, question, shown)
    shots = examples.get(category, examples.get("", ()))
    return Item(
        id=own,
        prompt="\n\n".join([*shots, prompt]),
        family=category,
        category=category,
        split=definition.split,
        pair=_label(row, definition.columns.pair) if definition.columns.pair else None,
        reference=_clean(definition, row, reference),
        choices=choices,
    )


def _filled(definition: Definition, row: Row, question: str, shown: str) -> str:
    """The prompt's template with its places filled once: what a column holds is never read as a place."""
    if definition.prompt is None:
        return question
    given = {"prompt": question, OPTIONS: shown}
    return _PLACE.sub(lambda match: given.get(match[1]) or _text(row, match[1]), definition.prompt.rstrip("\n"))


def _clean(definition: Definition, row: Row, reference: dict[str, Any]) -> dict[str, Any]:
    """The reference as its scorer reads it: numbers as text; arguments of instructions and constraints without null."""
    out = dict(reference)
    if definition.scorer == "ifeval":
        given = out["arguments"]
        if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
            raise RecordError(f"{row.place}: the instructions' arguments are not a list of objects")
        out["arguments"] = [_without_null(one) for one in given]
        return out
    if definition.choices is None and "answer" in out:
        given = out["answer"]
        out["answer"] = [_written(one) for one in given] if isinstance(given, list) else _written(given)
    for key in definition.use.reference:
        held = out[key] if isinstance(out[key], list) and out[key] else [out[key]]
        if any(one in (None, "", []) or isinstance(one, bool) for one in held):
            raise RecordError(f"{row.place}: the reference {key!r} is {out[key]!r}")
        if key == "constraints":
            out[key] = _constraints(row, out[key])
        elif any(isinstance(one, list | Mapping) for one in held):
            raise RecordError(f"{row.place}: the reference {key!r} is neither a text nor a list of texts")
    return out


def _constraints(row: Row, given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given):
        raise RecordError(f"{row.place}: the reference 'constraints' is not a list of objects")
    out = [_without_null(one) for one in given]
    if fault := next(filter(None, map(constraint_fault, out)), ""):
        raise RecordError(f"{row.place}: {fault}")
    return out


def _without_null(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments without those that are null: in Parquet every object of a column has every key."""
    return {key: part for key, part in given.items() if part is not None}


def _written(value: Any) -> Any:
    """A number as text; anything else as it is."""
    return written(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _examples(definition: Definition, table: Table | None) -> dict[str, list[str]]:
    """Worked examples by category ("" where rows have none of their own): prompts with their answers."""
    if table is None or definition.shots == 0:
        return {}
    out: dict[str, list[str]] = {}
    for row in table.rows:
        if not _wanted(definition, row):
            continue
        category = _category(definition, row) if definition.columns.category else ""
        shots = out.setdefault(category, [])
        if len(shots) < definition.shots:
            item = _item(definition, row, None, {})
            if item is not None:
                answer = (
                    item.choices[item.reference["answer"]] if item.choices else str(item.reference.get("answer", ""))
                )
                shots.append(f"{item.prompt} {answer}")
    short = [name for name, shots in out.items() if len(shots) < definition.shots]
    if short or not out:
        raise RecordError(
            f"worked examples of {definition.name}: fewer than {definition.shots} in {short[:3] or 'all'}"
        )
    return out
