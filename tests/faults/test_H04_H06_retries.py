"""H04-H06: what is tried again, after how long, and what is not."""

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines.base import Sampling
from alignmerge.auditor.wire.pacing import retry_after, wait
from alignmerge.errors import EndpointError
from tests.chat_server import questions, refuse, reply, send, serving

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
QUICK = Limits(tries=3, first_wait=0.01)
KEY = "sk-very-secret-0123456789"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 0.5 ", 0.5),
        ("1000000000", 1e9),
        ("1m30s", 90.0),
        ("2h", 7200.0),
        (format_datetime(NOW + timedelta(seconds=20), usegmt=True), 20.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("1e9", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        ("9" * 400, None),
        ("01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("01 Jan 2026 00:00:99999999999999999999 GMT", None),
        ("01 Jan 2026 00:00:00 +99999999999999999999", None),
        (None, None),
    ],
)
def test_H04_retry_after_is_read(header: str | None, seconds: float | None) -> None:
    assert retry_after(header, NOW) == seconds


@pytest.mark.parametrize("asked", [0.0, 3.0, 59.0, 1e9])
def test_H04_waits_what_was_asked_up_to_the_cap(asked: float) -> None:
    draws = random.Random(1)
    waits = [wait(asked, 1, 0.5, 60.0, draws) for _ in range(200)]
    assert all(min(asked, 60.0) <= one <= 1.1 * min(asked, 60.0) for one in waits)
    assert asked == 0 or len(set(waits)) > 100  # those refused together do not come back together


def test_H04_garbage_backs_off() -> None:
    draws = random.Random(1)
    for failures in range(1, 60):
        ceiling = min(60.0, 0.5 * 2 ** (failures - 1))
        assert ceiling / 2 <= wait(None, failures, 0.5, 60.0, draws) <= ceiling


@pytest.mark.parametrize("header", ["0.05", "1000000000", "garbage", "-5"])
def test_H04_an_answer_after_429(header: str) -> None:
    limits = Limits(first_wait=0.01, wait_cap=0.1)
    with (
        serving([refuse(429, retry_after=header), reply("ok")]) as server,
        Endpoint(server.url, "m", None, limits) as e,
    ):
        found = e.chat(questions("q")[0], Sampling(4))
        assert (found.text, found.tries, len(server.asked)) == ("ok", 2, 2)


def test_H04_a_wait_longer_than_the_time_left_is_not_waited() -> None:
    with serving([refuse(429, retry_after="50")]) as server, Endpoint(server.url, "m", None, Limits(total=5)) as e:
        with pytest.raises(EndpointError, match="HTTP 429"):
            e.chat(questions("q")[0], Sampling(4))
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_H05_server_errors_are_tried_again(status: int) -> None:
    with serving([refuse(status), refuse(status), reply("ok")]) as server, Endpoint(server.url, "m", None, QUICK) as e:
        found = e.chat(questions("q")[0], Sampling(4))
        assert (found.text, found.tries, len(server.asked)) == ("ok", 3, 3)


def test_H05_tries_end() -> None:
    with serving([refuse(500)]) as server, Endpoint(server.url, "m", None, QUICK) as endpoint:
        with pytest.raises(EndpointError, match="HTTP 500.*after 3 tries"):
            endpoint.chat(questions("q")[0], Sampling(4))
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_H06_client_error_is_not_retried(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    body = f'{{"error": {{"message": "no access with {KEY}"}}}}'.encode()
    with serving([send(body, status)]) as server, Endpoint(server.url, "m", "SOME_KEY", QUICK) as endpoint:
        with pytest.raises(EndpointError, match=f"HTTP {status}") as caught:
            endpoint.chat(questions("q")[0], Sampling(4))
        assert len(server.asked) == 1
        assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert caught.value.exit_code == 6
    assert KEY not in str(caught.value)
    assert "no access with [key]" in str(caught.value)


def test_H06_a_spent_account_is_not_asked_again() -> None:
    spent = send(b'{"error": {"message": "you are out of credit", "code": "insufficient_quota"}}', 429)
    with serving([spent]) as server, Endpoint(server.url, "m", None, QUICK) as endpoint:
        with pytest.raises(EndpointError, match="out of credit"):
            endpoint.chat(questions("q")[0], Sampling(4))
        assert len(server.asked) == 1
