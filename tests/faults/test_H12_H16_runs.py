"""H12-H14, H16, G15: whole runs against servers that break off, crowd, answer at random or change their model."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignmerge.auditor import record
from alignmerge.auditor.audit import audit
from alignmerge.auditor.endpoint import Endpoint, Limits
from alignmerge.auditor.engines.base import Advance, Sampling
from alignmerge.auditor.engines.openai_engine import OpenAIEngine
from alignmerge.auditor.engines.served import PROBE
from alignmerge.auditor.record import AuditRecord
from alignmerge.auditor.store import CompletionStore
from alignmerge.errors import EndpointError
from alignmerge.suites.registry import SUITES
from alignmerge.terminal import printable
from tests.chat_server import Act, Asked, Handler, cut, echo, questions, refuse, reply, serving

ROOT = Path(__file__).resolve().parents[2]
QUICK = Limits(concurrency=4, tries=3, first_wait=0.01)


def run(
    url: str, store: Path | None, limit: int = 12, limits: Limits = QUICK, progress: Advance | None = None
) -> AuditRecord:
    """An audit of whatever answers at `url`."""
    opened = CompletionStore(store) if store else None
    try:
        with Endpoint(url, "m", None, limits) as endpoint:
            engine = OpenAIEngine(endpoint)
            suites = [SUITES["arithmetic"], SUITES["refusal"], SUITES["over_refusal"]]
            named = {"checkpoint": "c" * 64, "name": "n"}
            return audit(engine, **named, suites=suites, limit=limit, store=opened, progress=progress)
    finally:
        if opened is not None:
            opened.close()


def stored(store: Path) -> list[tuple[str, str]]:
    """Prompt digest and answer of every stored row."""
    with sqlite3.connect(store) as opened:
        return [(str(prompt), str(answer)) for prompt, answer in opened.execute("SELECT prompt, answer FROM answers")]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_H12_disconnects_and_double_deliveries_leave_one_row_per_item(tmp_path: Path) -> None:
    seen: dict[str, int] = {}
    lock = threading.Lock()

    def script(asked: Asked) -> Act:
        with lock:
            seen[asked.prompt] = seen.get(asked.prompt, 0) + 1
            first = seen[asked.prompt] == 1
        # The answer is made and lost on the way, so the same prompt is answered twice.
        return cut(b'{"choices": [', 900) if first and len(seen) % 3 == 0 else echo(asked)

    with serving(script) as server:
        found = run(server.url, tmp_path / "answers.sqlite")
        asked = len(server.asked)
        assert run(server.url, tmp_path / "answers.sqlite").items == found.items
        assert len(server.asked) - asked == 5  # the first questions alone
    rows = stored(tmp_path / "answers.sqlite")
    assert len(rows) == len({prompt for prompt, _ in rows}) == 36
    assert sum(row.metric == "degeneration_rate" for row in found.items) == 36
    assert all(row.answer == row.prompt[::-1] for row in found.items)
    assert found.engine["requests"]["tries"] > found.engine["requests"]["answers"] == 36


def test_H12_a_server_killed_and_started_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = tmp_path / "answers.sqlite"

    def start(seconds: float) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "tests.chat_server", str(port), str(seconds)]
        process = subprocess.Popen(command, cwd=ROOT)
        while not listens(port):
            assert process.poll() is None
            time.sleep(0.02)
        return process

    answers = 0

    def kill_in_the_middle(count: int) -> None:
        nonlocal answers
        answers += count
        if answers == 40:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

    process = start(0.01)
    try:
        with pytest.raises(EndpointError, match=r"ConnectError|RemoteProtocolError|ReadError"):
            run(f"http://127.0.0.1:{port}/v1", store, limit=40, progress=kill_in_the_middle)
        kept = len(stored(store))
        assert 40 <= kept < 120
        process = start(0)
        resumed = run(f"http://127.0.0.1:{port}/v1", store, limit=40)
    finally:
        process.kill()
        process.wait()
    assert resumed.engine["requests"]["answers"] == 120 - kept
    rows = stored(store)
    assert len(rows) == len({prompt for prompt, _ in rows}) == 120
    with serving(echo) as server:
        assert run(server.url, None, limit=40).items == resumed.items


def test_H13_odd_characters_are_stored_shown_escaped_and_read_back(tmp_path: Path) -> None:
    text = "a\ud800\x00\x1b[31m\u202e" + "e" + "\u0301" * 5000
    with serving([reply(text)]) as server:
        found = run(server.url, tmp_path / "answers.sqlite", limit=3)
        again = run(server.url, tmp_path / "answers.sqlite", limit=3)
    assert again.items == found.items
    assert again.engine["requests"]["answers"] == 0
    path = record.save(found, tmp_path / "record")
    loaded = record.load(path)
    assert loaded.items == found.items
    answer = loaded.items[0].answer
    assert "\x00" in answer
    assert not {"\x00", "\x1b", "\u202e"} & set(printable(answer))


def test_H09_faults_are_unscored_and_asked_again_next_time(tmp_path: Path) -> None:
    def script(asked: Asked) -> Act:
        filtered = len(asked.prompt) % 2 and asked.prompt != PROBE
        return reply("half", finish="content_filter") if filtered else echo(asked)

    with serving(script) as server:
        found = run(server.url, tmp_path / "answers.sqlite")
        before = len(server.asked)
        run(server.url, tmp_path / "answers.sqlite")
        assert len(server.asked) - before > 5
    faulty = [row for row in found.items if row.finish == "fault"]
    assert faulty
    assert all(row.value is None and "content filter" in (row.unscored or "") for row in faulty)
    assert len(stored(tmp_path / "answers.sqlite")) == 36 - found.engine["requests"]["faults"]


def crowded(room: int, seconds: float) -> Callable[[Asked], Act]:
    """A server that answers `room` requests at once and refuses the others."""
    lock, inside = threading.Lock(), [0]

    def script(asked: Asked) -> Act:
        def act(handler: Handler) -> None:
            with lock:
                inside[0] += 1
                full = inside[0] > room
            try:
                if full:
                    refuse(429)(handler)
                else:
                    time.sleep(seconds)
                    echo(asked)(handler)
            finally:
                with lock:
                    inside[0] -= 1

        return act

    return script


def test_H14_a_crowd_thins_out_until_all_are_served() -> None:
    asked = 150
    limits = Limits(concurrency=64, first_wait=0.02, wait_cap=0.5, total=60)
    with serving(crowded(room=3, seconds=0.01)) as server, Endpoint(server.url, "m", None, limits) as endpoint:
        found = dict(endpoint.chats(questions(*map(str, range(asked))), Sampling(4)))
        assert sorted(found) == list(range(asked))
        assert all(found[place].text == str(place)[::-1] for place in range(asked))
        assert endpoint.concurrency < 16
        # Without a falling limit each round would bring 61 refusals for 3 answers.
        assert len(server.asked) < 12 * asked


def test_H14_refused_for_ever_ends_in_time() -> None:
    limits = Limits(concurrency=32, first_wait=0.02, wait_cap=0.1, total=4)
    started = time.monotonic()
    with serving([refuse(429)]) as server, Endpoint(server.url, "m", None, limits) as endpoint:
        with pytest.raises(EndpointError, match=r"429|no answer within 4 s"):
            list(endpoint.chats(questions(*map(str, range(1000))), Sampling(4)))
        assert endpoint.concurrency < 16
    assert time.monotonic() - started < 40


@pytest.mark.parametrize(("greedy", "drawn"), [(True, True), (True, False), (False, False)])
def test_H16_a_server_that_does_not_repeat_itself_is_recorded(greedy: bool, drawn: bool) -> None:
    draws = random.Random(5)

    def script(asked: Asked) -> Act:
        hot = asked.body["temperature"] > 0
        noise = "" if (drawn if hot else greedy) else f" {draws.random()}"
        return reply(f"seed {asked.body['seed']}{noise}")

    with serving(script) as server:
        found = run(server.url, None, limit=2)
        assert [one.body["temperature"] for one in server.asked[:5]].count(0.0) == 3
    assert found.engine["repeats"] == {"greedy": greedy, "drawn": drawn, "asked": 5}
    with serving(script) as server, Endpoint(server.url, "m") as endpoint:
        assert any("does not repeat" in note for note in OpenAIEngine(endpoint).notes) is not greedy


def test_H16_what_the_probe_saw_changes_no_key() -> None:
    with serving(lambda asked: reply(str(asked.number))) as server, Endpoint(server.url, "m") as endpoint:
        noisy = OpenAIEngine(endpoint).describe()
        server.script = echo
        steady = OpenAIEngine(endpoint).describe()
    assert noisy["repeats"] != steady["repeats"]
    assert noisy["digest"] == steady["digest"]


def test_G15_two_services_of_one_host_are_two_models() -> None:
    def identity(url: str) -> str:
        with Endpoint(url, "m") as endpoint:
            return OpenAIEngine(endpoint).identity

    with serving(lambda asked: reply("x")) as server:
        root = server.url.removesuffix("/v1")
        named = [identity(f"{root}/{path}") for path in ("one/v1", "two/v1", "one/v1/")]
        assert named[0] == named[2] != named[1]


def test_G15_a_model_that_changes_stops_the_run(tmp_path: Path) -> None:
    with (
        serving(lambda asked: reply("x", model="a" if asked.number < 25 else "b")) as server,
        pytest.raises(EndpointError, match="model changed.*'a' to 'b'") as caught,
    ):
        run(server.url, tmp_path / "answers.sqlite", limits=Limits(concurrency=1))
    assert caught.value.exit_code == 6
    assert len(stored(tmp_path / "answers.sqlite")) == 20  # what the first model said is kept


def test_H07_a_server_that_never_answers_sense_ends_at_once() -> None:
    with serving([reply(None)]) as server:
        with pytest.raises(EndpointError, match="are the URL and the model right"):
            run(server.url, None)
        assert len(server.asked) == 3
