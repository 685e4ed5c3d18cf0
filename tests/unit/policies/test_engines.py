"""Another engine, or another dtype, decides nothing and is said in the verdict."""

import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.verdict import from_statement, to_statement

r = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("records.py"))))
RULE = r.policy(r.rule())
OWN = {"kind": "transformers", "dtype": "float32", "batch_size": 8, "torch": "2.9", "template": "t"}
SERVED = {"kind": "openai", "url": "http://one/v1", "model": "merge", "reported": "m-1", "requests": {"tries": 9}}


def described(body: dict[str, Any]) -> dict[str, Any]:
    told = ("repeats", "requests", "judge")
    return {**body, "digest": jsonio.digest({key: part for key, part in body.items() if key not in told})}


def verdict(mine: dict[str, Any], theirs: dict[str, Any]) -> Any:
    scores = {"refusal_rate": r.ones(290, 320)}
    candidate = r.audit(scores, engine=described(mine))
    return r.verdict(RULE, candidate, r.audit(scores, name="anchor", engine=described(theirs)))


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (OWN, OWN | {"dtype": "bfloat16"}, "(dtype float32 and bfloat16)"),
        (OWN, OWN | {"batch_size": 4, "torch": "2.8"}, "(batch_size 8 and 4; torch 2.9 and 2.8)"),
        (OWN, OWN | {"settings": ["x" * 99]}, f'(settings none and ["{"x" * 35}...)'),
        (
            OWN,
            {"kind": "vllm", "dtype": "bfloat16", "version": "1"},
            "(dtype float32 and bfloat16; kind transformers and vllm)",
        ),
        (SERVED, SERVED | {"url": "http://two/v1"}, "(url http://one/v1 and http://two/v1)"),
    ],
)
def test_what_differs_is_said_and_decides_nothing(mine: dict[str, Any], theirs: dict[str, Any], said: str) -> None:
    found = verdict(mine, theirs)
    assert found.decision == ("INCONCLUSIVE" if mine is SERVED else "PASS")  # what a server runs is somebody's word
    (note,) = found.notes
    assert note.startswith(f"candidate and anchor were asked in another way {said}: ")
    assert any(note in line for line in verdict_lines(found))
    assert from_statement(jsonio.loads(jsonio.canonical(to_statement(found)))) == found
    assert replace(found, notes=()) == replace(verdict(mine, mine), audits=found.audits)


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [({"scorers": "aa"}, {"scorers": "bb"}, True), ({"scorers": "aa"}, {"scorers": "aa"}, False),
     ({"scorers": "aa"}, {}, False), ({}, {"scorers": "bb"}, False)],
)  # fmt: skip
def test_answers_read_by_other_scorers_are_said(mine: dict[str, str], theirs: dict[str, str], said: bool) -> None:
    scores = {"refusal_rate": r.ones(290, 320)}
    candidate = r.audit(scores, engine=described(OWN), software=mine)
    found = r.verdict(RULE, candidate, r.audit(scores, name="anchor", engine=described(OWN), software=theirs))
    assert found.decision == "PASS"
    assert len(found.notes) == said
    assert not said or "read the answers of anchor (scorers aa and bb): audit it again" in found.notes[0]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (OWN, OWN),
        (SERVED, SERVED | {"model": "anchor", "reported": "a-1", "requests": {"tries": 5}}),  # two models of a server
        (OWN | {"judge": {"digest": "j"}}, OWN | {"judge": {"digest": "j"}}),
    ],
)
def test_one_engine_is_not_mentioned(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    found = verdict(mine, theirs)
    assert found.notes == ()
    assert "notes" not in jsonio.canonical(to_statement(found)).decode()


def test_every_record_is_looked_at() -> None:
    scores = {"refusal_rate": r.ones(290, 320)}
    records = [r.audit(scores, name=name, engine=described(OWN | {"torch": name})) for name in ("a", "b", "c", "d")]
    candidate, anchor, expert, root = records
    found = r.verdict(RULE, candidate, anchor, experts=[expert], root=root)
    assert [note.split(" were")[0] for note in found.notes] == [
        f"candidate and {role}" for role in ("anchor", "root", "expert-1")
    ]
