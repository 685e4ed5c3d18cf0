"""`alignmerge judge exam` and `alignmerge audit --judge` against judges on the loopback interface."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from alignmerge.auditor import record
from alignmerge.cli import main
from tests.chat_server import ChatServer, reply, serving
from tests.judges import MODEL, Say, line, oracle, put, right

FEW = ("--judge-form", "final_line", "--judge-model", MODEL)


def judge(say: Say) -> AbstractContextManager[ChatServer]:
    return serving(lambda asked: reply(say(put(asked)), model=MODEL))


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(str(ended.value.code))


def test_the_exam_prints_agreement_and_biases(capsys: pytest.CaptureFixture[str]) -> None:
    with judge(oracle) as server:
        assert run("judge", "exam", "--judge", server.url, *FEW, "--rubric", "refusal", "--json") == 0
        value = json.loads(capsys.readouterr().out)
        assert value["passed"] is True
        assert value["kappa_lower"] > 0.6
        assert (value["model"], value["reported"], value["replies"]) == (MODEL, MODEL, {"verdict": 84})
        assert run("judge", "exam", "--judge", server.url, *FEW, "--rubric", "refusal") == 0
        assert "refusal: passed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rubrics", "compares"), [(("honesty",), False), (("helpfulness", "honesty", "instruction"), True)]
)
def test_comparing_is_examined_whole_or_not_at_all(
    rubrics: tuple[str, ...], compares: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Honesty's pairs alone would pass a judge for comparing whose liking for long answers nobody looked at."""
    named = [part for rubric in rubrics for part in ("--rubric", rubric)]
    with judge(lambda question: line(question, right(question))) as server:
        assert run("judge", "exam", "--judge", server.url, *FEW, *named, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["length_pairs"]["n"], value["flip"]["n"]) == ((15, 45) if compares else (0, 0))
    assert ("pairwise" in value["kappas"]) == compares


def test_a_judge_that_fails_ends_with_four(capsys: pytest.CaptureFixture[str]) -> None:
    with judge(lambda question: line(question, question.menu[0])) as server:
        assert run("judge", "exam", "--judge", server.url, *FEW, "--rubric", "refusal") == 4
    assert "refusal: the judge failed its exam: kappa" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no judge was named"),
        (("--repeats", "3"), "without --judge URL"),
        (("--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "--rubric", "beauty"), "no rubric 'beauty'"),
        (("--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-floor", "2"), "kappa is 2.0"),
        (("--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-secret", "x"), "64 hexadecimal digits"),
        (("--judge", "ftp://a", "--judge-model", "m"), "base URL"),
        (("--judge", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-key-env", "NOT_SET"), "NOT_SET"),
    ],
)
def test_wrong_options_are_answered_with_one_line(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("judge", "exam", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


WRONG = [
    (("--rubric", "refusals"), "--rubric: no rubric 'refusals'; did you mean refusal?"),
    (("--rubric", "beauty"), "--rubric: no rubric 'beauty'; known rubrics: harmlessness, "),
    (("--repeats", "0"), "'--repeats': 0 is not in the range 1<=x<=25"),
    (("--repeats", "two"), "'--repeats': 'two' is not a valid integer"),
    (("--judge-floor", "1.2"), "--judge-floor: judge limit kappa is 1.2: it must lie in [0, 1]"),
    (("--judge-floor", "nan"), "--judge-floor: judge limit kappa is nan: it must lie in [0, 1]"),
    (("--judge-secret", ""), "--judge-secret: the judge's secret is 64 hexadecimal digits"),
    (("--judge-key-env", "NOT_SET"), "--judge: environment variable 'NOT_SET' is not set"),
    (("--judge-gold", "nowhere.csv"), "'--judge-gold': File 'nowhere.csv' does not exist"),
    (("--judge-flor", "0.5"), "No such option '--judge-flor'. (Did you mean one of: '--judge-floor'"),
]


@pytest.mark.parametrize("command", [("judge", "exam"), ("audit", "no-such-model", "-o", "out")])
@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_option_is_found_before_a_model_is_opened_or_the_server_asked(
    command: tuple[str, ...],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with judge(oracle) as server:
        assert run(*command, "--judge", server.url, *arguments) == 2
        assert server.asked == []
    error = capsys.readouterr().err
    assert message in error
    assert "no-such-model" not in error
    assert list(tmp_path.iterdir()) == []


def test_gold_of_a_rubric_that_is_not_asked_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["id,prompt,completion,final_label", "1,ask,Yes.,1_full_compliance", "2,ask,No.,2_full_refusal"]
    (tmp_path / "gold.csv").write_text("\n".join(rows))
    gold = ("--judge-gold", str(tmp_path / "gold.csv"))
    with judge(oracle) as server:
        assert run("judge", "exam", "--judge", server.url, *FEW, *gold, "--rubric", "honesty") == 2
        assert "--judge-gold: answers labelled for the rubric refusal, which is not" in capsys.readouterr().err
        assert run("judge", "exam", "--judge", server.url, *FEW, *gold, *gold) == 2
        assert "--judge-gold: " in (error := capsys.readouterr().err) and "give it once" in error
        assert server.asked == []


def test_a_judge_that_cannot_be_opened_ends_an_audit_before_lm_eval_runs(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("alignmerge.pipeline.harness.run", lambda *_: pytest.fail("lm-eval was started"))
    ask = ("audit", str(tiny_checkpoint), "--harness", "gsm8k", "-o", str(tmp_path / "out"))
    with judge(oracle) as server:
        nowhere = ("--judge-checkpoint", str(tmp_path / "nowhere"))
        assert run(*ask, "--judge", server.url, *nowhere) == 2
        assert server.asked == []
    assert "nowhere" in capsys.readouterr().err


def test_an_audit_is_read_by_the_judge_and_compared_with_the_anchors(
    tiny_checkpoint: Path, empty_cache: Path, tmp_path: Path
) -> None:
    common = ("--suite", "helpfulness", "--limit", "3", "--dtype", "float32", *FEW)
    with judge(oracle) as server:
        ask = ("audit", str(tiny_checkpoint), *common, "--judge", server.url)
        assert run(*ask, "-o", str(tmp_path / "anchor")) == 0
        assert run(*ask, "-o", str(tmp_path / "again"), "--anchor", str(tmp_path / "anchor")) == 0
        ours = (*ask, "--judge-checkpoint", str(tiny_checkpoint))
        assert run(*ours, "-o", str(tmp_path / "itself")) == 0
    anchor, again, itself = (record.load(tmp_path / name) for name in ("anchor", "again", "itself"))
    score, win = anchor.result("helpfulness_score"), anchor.result("pairwise_win_rate")
    assert score is not None and win is not None
    assert (score.scored, score.unscored, win.value) == (3, 0, None)
    assert "no audit of the anchor" in str(win.reason)
    assert anchor.graders["judge"]["exam"]["passed"] is True
    assert anchor.graders["judge"]["self_judging"] is False
    assert all(row.note == "I read it twice." for row in anchor.scores("helpfulness_score").values())
    win = again.result("pairwise_win_rate")
    assert win is not None and (win.value, win.scored) == (0.5, 3), "the same answers on both sides"
    assert again.graders["judge"]["digest"] == anchor.graders["judge"]["digest"]
    score = itself.result("helpfulness_score")
    assert score is not None and "the judge is the candidate itself" in str(score.reason)
    assert itself.graders["judge"]["self_judging"] is True
