"""`alignmerge audit --engine vllm` from the command to the record, where no vLLM is installed: a server in its place.

The stand-in (tests/completions_server.py) is started, asked and ended as vLLM is, and computes what it answers.
"""

from pathlib import Path

import pytest

from alignmerge.auditor import record
from alignmerge.auditor.record import AuditRecord
from alignmerge.cli import main
from alignmerge.merger.checkpoint import open_checkpoint
from tests.completions_server import VERSION, interpreter

QUIZ = '{{"prompt": "{n} is even?", "choices": ["yes", "certainly not"], "answer": {answer}}}\n'


def audit(model: Path, output: Path, quiz: Path, *more: str) -> AuditRecord:
    suites = ["--suite", "refusal", "--suite", "arithmetic", "--suite", str(quiz), "--limit", "3"]
    with pytest.raises(SystemExit) as caught:
        main(["audit", str(model), *suites, "--dtype", "float32", *more, "-o", str(output)])
    assert caught.value.code == 0
    return record.load(output)


@pytest.mark.parametrize("model", ["anchor", "adapter"])
def test_an_audit_over_the_protocol_has_the_answers_of_our_own_engine(
    model: str, family: Path, empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(QUIZ.format(n=n, answer=n % 2) for n in range(6)))
    python = str(interpreter(tmp_path))
    served = audit(family / model, tmp_path / "served", quiz, "--engine", "vllm", "--vllm-python", python)
    own = audit(family / model, tmp_path / "own", quiz)
    assert served.items == own.items
    assert {row.suite for row in served.items} == {"refusal", "arithmetic", "quiz"}
    assert served.checkpoint == own.checkpoint == open_checkpoint(str(family / model)).digest
    assert served.template == own.template
    engine = served.engine
    assert (engine["kind"], engine["version"], engine["dtype"]) == ("vllm", VERSION, "float32")
    assert engine["options"][engine["options"].index("--max-model-len") + 1] == "512"
    assert engine["requests"] == {"answers": 6, "tries": 6, "faults": 0}
    assert "is ready after" in capsys.readouterr().err
    assert not list((empty_cache / "vllm").iterdir()), "neither the server's log nor a copy of the model is left"


def test_an_audit_again_asks_the_server_nothing_but_the_first_questions(
    family: Path, empty_cache: Path, tmp_path: Path
) -> None:
    quiz = tmp_path / "quiz.jsonl"
    quiz.write_text("".join(QUIZ.format(n=n, answer=n % 2) for n in range(6)))
    python = str(interpreter(tmp_path))
    options = ("--engine", "vllm", "--vllm-python", python)
    first, again = (audit(family / "anchor", tmp_path / name, quiz, *options) for name in ("one", "two"))
    assert again.items == first.items
    assert again.engine["requests"]["answers"] == 0
