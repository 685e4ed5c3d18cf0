"""H11, H15: the key goes to the server that was named, and shows nowhere."""

import json
import logging
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines import vllm_server
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.engines.vllm_server import environment
from alignmerge.auditor.toxicity import convert
from alignmerge.cli import main
from alignmerge.environment import for_child
from alignmerge.errors import CheckpointError, EndpointError, UsageError
from tests.chat_server import Act, Asked, echo, questions, refuse, reply, send, serving

KEY = "sk-very-secret-0123456789"
QUICK = Limits(tries=2, first_wait=0.01)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-private: yes")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_H11_a_redirect_is_not_followed(status: int) -> None:
    with serving([reply("stolen")]) as other:
        moved = send(b"", status, location=f"{other.url}/chat/completions")
        with serving([moved]) as server, Endpoint(server.url, "m", "SOME_KEY", QUICK) as endpoint:
            with pytest.raises(EndpointError, match="redirects are not followed"):
                endpoint.chat(questions("q")[0], Sampling(4))
            assert len(server.asked) == 1
        assert other.asked == []


def test_H11_only_needed_headers_leave() -> None:
    with serving([reply("a")]) as server:
        with Endpoint(server.url, "m", None, QUICK) as endpoint:
            endpoint.chat(questions("q")[0], Sampling(4))
        with Endpoint(server.url, "m", "SOME_KEY", QUICK) as endpoint:
            endpoint.chat(questions("q")[0], Sampling(4))
    without, with_key = (one.headers for one in server.asked)
    assert "authorization" not in without
    assert with_key["authorization"] == f"Bearer {KEY}"
    for headers in (without, with_key):
        assert "openai-organization" not in headers
        assert "x-private" not in headers
        assert "somebody-else" not in str(headers)


@pytest.mark.parametrize(
    "url", ["http://models.example/v1", "http://8.8.8.8/v1", "http://u:p@127.0.0.1/v1", "ftp://127.0.0.1", "127.0.0.1"]
)
def test_H15_a_key_is_not_sent_in_the_clear(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        Endpoint(url, "m", "SOME_KEY")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("value", ["", "  ", "two words", "kéy", "line\nbreak"])
def test_H15_a_key_that_is_none_is_named_not_shown(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UsageError, match="SOME_KEY") as caught:
        Endpoint("https://models.example/v1", "m", "SOME_KEY")
    assert not value.strip() or value not in str(caught.value)


def audit(url: str, output: Path) -> int:
    """The exit code of an audit through the server."""
    command = ["audit", "--engine", "openai", "--base-url", url, "--model-name", "m", "--key-env", "SOME_KEY"]
    with pytest.raises(SystemExit) as caught:
        main([*command, "--suite", "arithmetic", "--limit", "3", "-o", str(output)])
    return int(caught.value.code or 0)


def test_H15_no_output_holds_the_key(
    empty_cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refused_later(asked: Asked) -> Act:
        return refuse(401) if asked.number >= 6 else echo(asked)

    caplog.set_level(logging.DEBUG)
    for name, script, code in (("record", echo, 0), ("later", refused_later, 6)):
        with serving(script) as server:
            assert audit(server.url, tmp_path / name) == code
        assert len(server.asked) > 6
        assert all(one.headers["authorization"] == f"Bearer {KEY}" for one in server.asked)
    with serving([send(json.dumps({"error": {"message": f"bad key {KEY}"}}).encode(), 401)]) as server:
        assert audit(server.url, tmp_path / "refused") == 6
    shown = capfd.readouterr()
    assert "HTTP 401" in shown.err
    assert "audit.json" in shown.out
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"items" in written
    for text in (shown.out.encode(), shown.err.encode(), caplog.text.encode(), written):
        assert KEY.encode() not in text


@pytest.mark.parametrize(
    "said",
    [
        {"error": {"message": f"{'x' * 75}bad key {KEY}"}},
        {"error": f"{'x' * 105}{KEY}"},
        {"choices": [{"message": {"content": "a"}, "finish_reason": f"{KEY}"}]},
        {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "model": KEY},
    ],
)
def test_H15_a_key_in_a_reply_of_status_200_is_hidden(
    said: dict[str, Any], empty_cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def script(asked: Asked) -> Act:
        return echo(asked) if asked.number < 5 and "model" not in said else send(json.dumps(said).encode())

    with serving(script) as server:
        assert audit(server.url, tmp_path / "record") == 0
    with serving([send(json.dumps(said).encode())]) as server:
        assert audit(server.url, tmp_path / "at once") == (0 if "model" in said else 6)
    shown = capfd.readouterr()
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"[k" in written
    for text in (shown.out.encode(), shown.err.encode(), written):
        assert KEY[:8].encode() not in text


def test_H15_a_key_in_what_is_no_json_is_hidden() -> None:
    body = b"0123456789 0123456789 012345" + KEY.encode()
    with serving([send(body)]) as server, Endpoint(server.url, "m", "SOME_KEY", QUICK) as endpoint:
        reply = endpoint.chat(questions("q")[0], Sampling(4))
    assert "not JSON" in str(reply.fault)
    assert KEY[:8] not in str(reply.fault)


def test_H15_a_server_that_we_start_gets_no_keys() -> None:
    secret = {"SOME_KEY": KEY, "HF_TOKEN": "hf_x", "AWS_SECRET": "s", "DB_PASSWORD": "p", "VLLM_API_KEY": "k"}
    secret |= {"ALIGNMERGE_KEY_PASSPHRASE": "p", "AWS_ACCESS_KEY_ID": "a", "JUDGE_PAT": "t", "ANYTHING": "x"}
    own = secret | {"PATH": "/bin", "HOME": "/h", "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C", "HF_HUB_OFFLINE": "0"}
    given = environment(own)
    assert not secret.keys() & given.keys()
    assert (given["PATH"], given["HOME"], given["HF_HUB_OFFLINE"]) == ("/bin", "/h", "1")
    assert (given["CUDA_VISIBLE_DEVICES"], given["LC_ALL"]) == ("0", "C")
    assert for_child(secret | {"PYTHONPATH": "/p"}, "PYTHONPATH") == {"PYTHONPATH": "/p"}


def test_H15_the_programs_that_we_start_get_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ("ALIGNMERGE_KEY_PASSPHRASE", "AWS_ACCESS_KEY_ID", "JUDGE_PAT")
    for name in secret:
        monkeypatch.setenv(name, KEY)
    given: list[Mapping[str, str]] = []

    def seen(*_: Any, env: Mapping[str, str], **__: Any) -> Any:
        given.append(env)
        raise subprocess.TimeoutExpired("program", 1)

    monkeypatch.setattr(subprocess, "run", seen)
    assert vllm_server.installed_version("python") is None
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="did not end"):
        convert._run_child(tmp_path / "file", tmp_path, tmp_path, "0" * 64)
    assert len(given) == 2
    assert all(not {*secret, "SOME_KEY"} & env.keys() and "PATH" in env for env in given)
