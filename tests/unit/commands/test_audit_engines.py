"""`alignmerge audit` over a server: what the record says of whose weights answered, and what a gate makes of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor import record
from alignmerge.cache import cache_dir
from alignmerge.cli import main
from alignmerge.merger.checkpoint import open_checkpoint
from tests.chat_server import Act, Asked, echo, hang, refuse, reply, serving

pytestmark = pytest.mark.usefixtures("empty_cache")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def over(url: str, output: Path, *more: str) -> int:
    suites = [part for name in ("refusal", "over_refusal", "arithmetic") for part in ("--suite", name)]
    server = ["--engine", "openai", "--base-url", url, "--model-name", "m"]
    return run("audit", *more, *server, *suites, "--limit", "4", "-o", str(output))


def test_a_server_of_unknown_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(echo) as server:
        assert over(server.url, tmp_path / "one") == 0
        assert over(server.url, tmp_path / "two") == 0
        server.script = lambda asked: reply("x", model="another")
        assert over(server.url, tmp_path / "three") == 0
    one, two, three = (record.load(tmp_path / name) for name in ("one", "two", "three"))
    assert one.checkpoint == two.checkpoint != three.checkpoint  # the server's own name of its model is in the key
    assert (one.engine["kind"], one.engine["weights"]) == ("openai", "unknown")
    assert any("no weights digest is known" in note for note in one.notes)
    for metric in ("aqi_log_j", "aqi_paper"):
        row = one.result(metric)
        assert row is not None
        assert (row.value, row.reason) == (None, "the engine gives no hidden states")
    capsys.readouterr()
    assert run("gate", str(tmp_path / "one"), "--policy", "demo", "--anchor", str(tmp_path / "two")) == 4
    assert "declared" in capsys.readouterr().out


def test_a_server_that_is_said_to_run_a_checkpoint(tmp_path: Path, tiny_checkpoint: Path) -> None:
    with serving(echo) as server:
        assert over(server.url, tmp_path / "one", str(tiny_checkpoint)) == 0
    found = record.load(tmp_path / "one")
    assert found.checkpoint == open_checkpoint(str(tiny_checkpoint)).digest
    assert found.engine["weights"] == "stated"
    assert any("cannot be checked" in note for note in found.notes)


def test_an_audit_of_a_server_asks_everything_anew(tmp_path: Path) -> None:
    with serving(lambda asked: reply("before", model="m")) as server:
        assert over(server.url, tmp_path / "one") == 0
        server.script = lambda asked: reply("now", model="m")
        for name in ("two", "one"):
            assert over(server.url, tmp_path / name) == 0
            found = record.load(tmp_path / name)
            assert {row.answer for row in found.items} == {"now"}
            assert not any("interrupted" in note for note in found.notes)


def test_H12_an_interrupted_audit_of_a_server_goes_on_and_says_so(tmp_path: Path) -> None:
    def breaks(asked: Asked) -> Act:
        return refuse(401) if asked.number >= 5 + 9 else reply("before", model="m")

    with serving(breaks) as server:
        assert over(server.url, tmp_path / "one") == 6
        server.script = lambda asked: reply("after", model="m")
        before = len(server.asked)
        assert over(server.url, tmp_path / "other") == 0
        assert len(server.asked) - before == 5 + 12, "an audit into another folder is another audit"
        before = len(server.asked)
        assert over(server.url, tmp_path / "one") == 0
        assert 5 < len(server.asked) - before < 5 + 12
    found = record.load(tmp_path / "one")
    assert {row.answer for row in found.items} == {"before", "after"}
    kept = sum(row.answer == "before" for row in found.items if row.metric == "degeneration_rate")
    assert sum(f"this audit was interrupted: {kept} answers were kept" in note for note in found.notes) == 1
    assert not list((cache_dir() / "served").iterdir()), "the record is written: nothing is kept any more"


def test_answers_that_were_not_used_are_not_told_of_and_stay(tmp_path: Path) -> None:
    def breaks(asked: Asked) -> Act:
        return refuse(401) if asked.number >= 5 + 9 else reply("first", model="m")

    with serving(breaks) as first, serving(lambda asked: reply("second", model="m")) as second:
        assert over(first.url, tmp_path / "one") == 6
        kept = len(list((cache_dir() / "served").glob("*.sqlite")))
        assert over(second.url, tmp_path / "one") == 0
        assert len(second.asked) == 5 + 12, "another server is asked everything"
        found = record.load(tmp_path / "one")
        assert not any("interrupted" in note for note in found.notes)
        assert kept == len(list((cache_dir() / "served").glob("*.sqlite"))) == 1
        first.script, before = (lambda asked: reply("first", model="m")), len(first.asked)
        assert over(first.url, tmp_path / "one") == 0
        assert 5 < len(first.asked) - before < 5 + 12, "the first server's audit goes on"
    assert any("interrupted" in note for note in record.load(tmp_path / "one").notes)
    assert not list((cache_dir() / "served").iterdir())


def test_a_server_is_asked_as_hard_and_waited_for_as_long_as_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def slowly(asked: Asked) -> Act:
        time.sleep(0.02)
        return echo(asked)

    with serving(slowly) as server:
        assert over(server.url, tmp_path / "one", "--concurrency", "1", "--timeout", "30") == 0
        assert server.most_at_once == 1
        assert over(server.url, tmp_path / "two") == 0
        assert server.most_at_once > 1
    with serving([hang()]) as server:
        assert over(server.url, tmp_path / "three", "--timeout", "0.1") == 6
        assert len(server.asked) > 1, "it is asked again"
    assert "ReadTimeout" in capsys.readouterr().err


def test_a_judge_is_asked_as_hard_and_for_as_many_tokens_as_is_said(tmp_path: Path) -> None:
    with serving(echo) as answers, serving(lambda asked: reply("no verdict", model="j")) as server:
        served = ["--engine", "openai", "--base-url", answers.url, "--model-name", "m", "--suite", "refusal"]
        judge = ["--judge", server.url, "--judge-model", "j", "--rubric", "refusal", "--gold-limit", "2"]
        more = ["--judge-max-tokens", "77", "--judge-concurrency", "1", "--judge-timeout", "30"]
        assert run("audit", *served, "--limit", "2", *judge, *more, "-o", str(tmp_path / "out")) == 0
        assert {one.body["max_tokens"] for one in server.asked} == {77}
        assert server.most_at_once == 1
    assert record.load(tmp_path / "out").graders["judge"]["max_new_tokens"] == 77


@pytest.mark.parametrize(("judge", "said"), [("", True), ("another", False)])
def test_G12_a_judge_on_the_candidates_server_is_the_candidate(judge: str, said: bool, tmp_path: Path) -> None:
    with serving(lambda asked: reply("I cannot.", model=asked.body["model"])) as server:
        url = f"{server.url}/"
        more = ["--judge", url, "--judge-model", judge or "m", "--rubric", "refusal", "--gold-limit", "2"]
        served = ["--engine", "openai", "--base-url", server.url, "--model-name", "m", "--suite", "refusal"]
        assert run("audit", *served, "--limit", "2", *more, "-o", str(tmp_path / "out")) == 0
    found = record.load(tmp_path / "out")
    assert found.graders["judge"]["self_judging"] is said
    row = found.result("judged_refusal_rate")
    assert row is not None
    assert ("the judge is the candidate itself" in str(row.reason)) is said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "openai"], "needs --base-url and --model-name"),
        (["--engine", "vllm"], "MODEL is missing"),
        ([], "MODEL is missing"),
        (["zoo:safety", "--engine", "vllm", "--base", "zoo:safety"], "--base"),
        (["--engine", "openai", "--base-url", "http://h.example/v1", "--model-name", "m", "--key-env", "NONE"], "NONE"),
        (["zoo:safety", "--base-url", "http://127.0.0.1/v1"], "--base-url: belongs to --engine openai"),
        (["zoo:safety", "--model-name", "m"], "--model-name: belongs to --engine openai"),
        (["zoo:safety", "--engine", "vllm", "--key-env", "K"], "--key-env: belongs to --engine openai"),
        (["zoo:safety", "--vllm-python", "python"], "--vllm-python: belongs to --engine vllm"),
        (["zoo:safety", "--timeout", "9"], "--timeout: belongs to --engine openai or vllm"),
        (["zoo:safety", "--engine", "vllm", "--concurrency", "9"], "--concurrency: belongs to --engine openai"),
        (["zoo:safety", "--judge", "http://127.0.0.1/v1", "--judge-timeout", "nan"], "--judge-timeout: endpoint limit"),
        (["zoo:safety", "--judge-max-tokens", "9"], "an option of the judge (max tokens)"),
        (["zoo:safety", "--base", "zoo:base", "--anchor", "audits/anchor"], "--base: decides"),
        (["zoo:safety", "--plan", "--judge", "http://127.0.0.1/v1"], "--judge: a plan asks no judge"),
        (["zoo:safety", "--suite", "units", "--judge", "http://127.0.0.1/v1"], "--judge: a judge reads"),
        (["zoo:safety", "--suite", "units", "--standin"], "--standin: the stand-in reads nothing in units"),
        (["zoo:safety", "--suite", "units", "--base", "zoo:base"], "--base: AQI is measured on"),
    ],
)
def test_what_is_missing_is_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("audit", *arguments, "-o", str(tmp_path / "out")) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run("audit", *arguments, "--suite", "refusal", "--limit", "4", "--plan", "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_plan_for_vllm_counts_the_tokens_that_our_own_engine_counts(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nobody = str(tmp_path / "python")
    served = planned(capsys, str(tiny_checkpoint), "--engine", "vllm", "--vllm-python", nobody)
    own = planned(capsys, str(tiny_checkpoint))
    assert served["basis"] == "no estimate of time: a plan starts no server"
    (row,), (known,) = served["suites"], own["suites"]
    assert row["prompt_tokens"] == known["prompt_tokens"] > 0
    assert (row["seconds"], row["new_tokens"]) == (None, known["new_tokens"])
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"prompt": "x" * 600, "answer": "y"}) + "\n")
    assert run("audit", str(tiny_checkpoint), "--engine", "vllm", "--suite", str(long), "--plan") == 2
    assert "exceed the model's context of 512" in capsys.readouterr().err


def test_a_plan_for_a_server_asks_it_nothing_and_wants_it_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serving(echo) as server:
        found = planned(capsys, "--engine", "openai", "--base-url", server.url, "--model-name", "m")
        assert server.asked == []
    assert found["suites"][0]["prompt_tokens"] is None
    for missing, message in (
        (["--model-name", "m"], "needs --base-url and --model-name"),
        (["--base-url", "http://127.0.0.1/v1"], "needs --base-url and --model-name"),
        (["--base-url", "ftp://127.0.0.1/v1", "--model-name", "m"], "ftp"),
        (["--base-url", "http://127.0.0.1/v1", "--model-name", "m", "--key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY"),
    ):
        assert run("audit", "--engine", "openai", *missing, "--suite", "refusal", "--plan") == 2
        assert message in capsys.readouterr().err


def test_vllm_that_is_not_installed(tmp_path: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = str(tmp_path / "python")
    command = ["audit", str(tiny_checkpoint), "--engine", "vllm", "--vllm-python", nobody]
    assert run(*command, "-o", str(tmp_path / "out")) == 2
    assert "has no vLLM; install it" in capsys.readouterr().err


def test_a_server_that_is_gone_is_exit_6_and_keeps_no_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(echo) as server:
        url = server.url
    assert over(url, tmp_path / "out") == 6
    assert "ConnectError" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_records_say_what_was_tried(tmp_path: Path) -> None:
    with serving(echo) as server:
        assert over(server.url, tmp_path / "one") == 0
    stored = json.loads((tmp_path / "one" / "audit.json").read_text())["engine"]
    assert stored["requests"] == {"answers": 12, "tries": 12, "faults": 0}
    assert stored["repeats"] == {"greedy": True, "drawn": True, "asked": 5}


@pytest.mark.parametrize(("more", "dtype"), [((), "float32"), (("--dtype", "bfloat16"), "bfloat16")])
def test_an_audit_with_an_anchor_computes_in_the_anchors_dtype_unless_told(
    more: tuple[str, ...], dtype: str, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    asked = ["audit", str(tiny_checkpoint), "--suite", "refusal", "--limit", "2"]
    assert run(*asked, "--dtype", "float32", "-o", str(tmp_path / "anchor")) == 0
    assert run(*asked, "--anchor", str(tmp_path / "anchor"), *more, "-o", str(tmp_path / "out")) == 0
    assert record.load(tmp_path / "out").engine["dtype"] == dtype
