"""Judges on the loopback interface that grade as a test wants: honest ones, noisy ones, biased ones."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.judge.ask import JudgeServer
from alignmerge.auditor.judge.gold import own
from alignmerge.auditor.judge.grading import graders, sitting
from alignmerge.auditor.judge.judging import Judging
from alignmerge.auditor.judge.paper import labels
from alignmerge.auditor.judge.rubric import RUBRICS
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.scorers.refusal import is_refusal
from alignmerge.suites.model import Suite
from tests.chat_server import Act, Asked, ChatServer, reply, serving

SECRET = "5e" * 32
MODEL = "judge-1"
_DATA = re.compile(r"^DATA ([0-9a-f]{32})\n(.*?)\nEND \1$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Put:
    """What a judge was asked: the code, the material, and the verdicts offered."""

    fence: str
    material: Mapping[str, str]
    menu: tuple[str, ...]
    text: str

    @property
    def pairwise(self) -> bool:
        return "answer of A" in self.material


def put(asked: Asked) -> Put:
    """The question in a request, read as a judge would."""
    found = _DATA.search(asked.prompt)
    assert found is not None
    menu = re.findall(r"one of: ([^).\n]+)", asked.prompt)[-1]
    return Put(found.group(1), json.loads(found.group(2)), tuple(menu.split(", ")), asked.prompt)


Say = Callable[[Put], str]


def line(question: Put, label: str) -> str:
    """A reply that ends with a verdict line."""
    return f"I read it twice.\nVERDICT {question.fence}: {label}"


@contextmanager
def judge(say: Say, **knobs: Any) -> Iterator[JudgeServer]:
    """A judge that replies `say(question)`."""
    with judging_server(lambda asked: say(put(asked)), **knobs) as (server, _):
        yield server


@contextmanager
def judging_server(say: Callable[[Asked], str], **knobs: Any) -> Iterator[tuple[JudgeServer, ChatServer]]:
    with (
        serving(lambda asked: reply(say(asked), model=MODEL)) as server,
        Endpoint(server.url, MODEL, limits=Limits(concurrency=16, first_wait=0.01)) as endpoint,
    ):
        yield JudgeServer(endpoint, **({"form": "final_line", "secret": SECRET} | knobs)), server


def truth() -> dict[tuple[str, str], float]:
    """What our gold says each answer to a request is worth."""
    return {
        (item.request, answer): RUBRICS[name].verdicts[label]
        for name in RUBRICS
        for item in own(name)
        for label, answer in item.answers.items()
    }


TRUTH = truth()


def worth(request: str, answer: str) -> float:
    """What an answer is worth: gold's word where it starts with a gold answer, nothing otherwise."""
    known = [
        (len(text), value) for (asked, text), value in TRUTH.items() if asked == request and answer.startswith(text)
    ]
    return max(known, default=(0, 0.0))[1]


def right(question: Put) -> str:
    """The verdict that gold gives."""
    material = question.material
    if question.pairwise:
        one, two = (worth(material["request"], material[f"answer of {side}"]) for side in "AB")
        return "tie" if one == two else "A" if one > two else "B"
    rubric = next(rubric for rubric in RUBRICS.values() if tuple(rubric.verdicts) == question.menu)
    best, worst = labels(rubric)
    return best if worth(material["request"], material["answer"]) > 0.5 else worst


def wrong(question: Put) -> str:
    """The other verdict."""
    if question.pairwise:
        return {"A": "B", "B": "A", "tie": "A"}[right(question)]
    rubric = next(rubric for rubric in RUBRICS.values() if tuple(rubric.verdicts) == question.menu)
    best, worst = labels(rubric)
    return worst if right(question) == best else best


def oracle(question: Put) -> str:
    """A judge that is right, but for one question in twenty, chosen by a hash of the material."""
    drawn = hashlib.sha256(json.dumps(dict(question.material), sort_keys=True).encode()).digest()
    return line(question, wrong(question) if drawn[0] * 256 + drawn[1] < 65536 // 20 else right(question))


def grading(
    judging: Judging,
    candidate: str,
    suites: Sequence[Suite],
    anchor: AuditRecord | None = None,
    answers: Endpoint | None = None,
) -> tuple[Any, ...]:
    """The graders of one audit of the checkpoint with that digest."""
    return graders(sitting(judging, candidate, suites, anchor, answers), suites, anchor)


def reading(asked: Asked) -> Act:
    """Right about gold; whether other answers refuse, as our phrases tell; the worst of everything else."""
    question = put(asked)
    request, answer = question.material["request"], question.material.get("answer", "")
    if (request, answer) in TRUTH or question.menu != tuple(RUBRICS["refusal"].verdicts):
        return reply(line(question, right(question)), model=MODEL)
    return reply(line(question, "refused" if is_refusal(answer) else "answered"), model=MODEL)


if __name__ == "__main__":  # that judge in a process of its own: PORT
    ChatServer(reading, int(sys.argv[1])).serve_forever()
