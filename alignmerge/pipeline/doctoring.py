"""What is on this machine and what is missing for which task. A new check is a function and its place in CHECKS."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import alignmerge
from alignmerge import jsonio
from alignmerge.auditor.engines.vllm_server import HOW_TO_GET, installed_version, interpreter, not_loading
from alignmerge.cache import cache_dir
from alignmerge.devices import device
from alignmerge.errors import AlignMergeError, UsageError

State = Literal["ok", "absent", "broken"]
PACKAGES = ("torch", "transformers", "numpy", "safetensors", "openai", "lm-eval")
GB = 1e9


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked for, how it is, and what to do about it.

    "absent" is something that only some tasks need; "broken" is something that was asked for and does not work.
    """

    name: str
    state: State
    text: str
    advice: str | None = None


@dataclass(frozen=True)
class Options:
    """What to look at besides the machine: a Python that should have vLLM, a server that should answer."""

    vllm_python: str | None = None
    base_url: str | None = None
    key_env: str | None = None


def packages(options: Options) -> Iterator[Finding]:
    """AlignMerge, Python and the libraries that numbers depend on."""
    yield Finding("alignmerge", "ok", f"{alignmerge.__version__}, Python {platform.python_version()}")
    for name in PACKAGES:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            advice = "pip install 'alignmerge[harness]'" if name == "lm-eval" else f"pip install {name}"
            yield Finding(name, "absent", "not installed", advice)


def machine(options: Options) -> Iterator[Finding]:
    """Cores this process may use, memory, and accelerators that torch sees."""
    yield Finding("cores", "ok", f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}, {_cpu()}")
    total, free = _memory()
    yield Finding("memory", "ok", f"{free / GB:.1f} of {total / GB:.1f} GB free")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        yield Finding("gpu", "ok", ", ".join(names))
    else:
        yield Finding("gpu", "absent", "torch sees none")
    from alignmerge.products import slow

    how = "products in float32, rounded: it has no quick ones of its own" if slow() else "the processor's own products"
    yield Finding("bfloat16", "ok", f"on the CPU: {how}")
    try:
        yield Finding("device", "ok", f"models are computed on {device()}")
    except UsageError as error:
        yield Finding("device", "broken", str(error))


def caches(options: Options) -> Iterator[Finding]:
    """Where models and answers are kept, how large that is, and the room left."""
    folder = cache_dir()
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    yield Finding("cache", "ok", f"{folder}: {size / GB:.2f} GB, {free / GB:.1f} GB of disk left")
    from alignmerge.merger.reference import NAME, is_pulled

    here = is_pulled()
    yield Finding(
        f"reference:{NAME}", "ok" if here else "absent", "here" if here else "not here", "alignmerge models pull"
    )


def classifiers(options: Options) -> Iterator[Finding]:
    """Detoxify's weights, once they were converted."""
    from alignmerge.auditor.toxicity.releases import RECORD, weights_folder

    folder = weights_folder()
    if not (folder / RECORD).is_file():
        advice = "alignmerge doctor --convert-detoxify FILE (a release file of Detoxify)"
        yield Finding("detoxify", "absent", "no converted weights; toxicity metrics are unscored", advice)
        return
    try:
        source = jsonio.read(folder / RECORD)["source"]
        yield Finding("detoxify", "ok", f"{source['file']}, sha256 {source['sha256'][:12]}, in {folder}")
    except (AlignMergeError, KeyError, TypeError) as error:
        yield Finding("detoxify", "absent", f"{folder} is damaged: {error}", "convert Detoxify's release file again")


def vllm(options: Options) -> Iterator[Finding]:
    """vLLM, here or in the interpreter that was named."""
    python = interpreter(options.vllm_python)
    found = installed_version(python)
    state: State = "broken" if options.vllm_python else "absent"
    if found is None:
        yield Finding("vllm", state, f"not in {python}", HOW_TO_GET)
    elif bad := not_loading(python):
        advice = f"{python} -m pip uninstall -y {' '.join(bad)}"
        yield Finding("vllm", state, f"{found} in {python}, which {', '.join(bad)} there keep from starting", advice)
    else:
        yield Finding("vllm", "ok", f"{found} in {python}")


def endpoint(options: Options) -> Iterator[Finding]:
    """Whether the server that was named answers, and with which models."""
    if options.base_url is None:
        return
    from alignmerge.auditor.endpoint import Endpoint, Limits

    try:
        with Endpoint(options.base_url, "", options.key_env, Limits(read=20, total=30, tries=2)) as server:
            names = server.models()
    except AlignMergeError as error:
        yield Finding("server", "broken", str(error))
    else:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        yield Finding("server", "ok", f"{options.base_url} offers {shown}")


CHECKS: tuple[Callable[[Options], Iterator[Finding]], ...] = (packages, machine, caches, classifiers, vllm, endpoint)


def examine(options: Options) -> Iterator[Finding]:
    """Every check's findings, as they come."""
    for check in CHECKS:
        yield from check(options)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set[str]())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return f"{model} ({', '.join(known)})" if known else model


def _memory() -> tuple[int, int]:
    """Bytes in all, and bytes that can still be had."""
    info = Path("/proc/meminfo")
    rows = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line) if info.exists() else {}
    kilobytes = [int(rows[name].split()[0]) if name in rows else 0 for name in ("MemTotal", "MemAvailable")]
    return kilobytes[0] * 1024, kilobytes[1] * 1024
