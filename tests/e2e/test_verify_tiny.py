"""`alignmerge verify` on whole runs with tiny checkpoints: what was changed is named, the rest is left alone."""

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import Result

from tests.valid_exports import junit_problems, sarif_problems, summary_problems

tiny = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("test_pipeline_tiny.py"))))
inputs = tiny.inputs
run: Callable[..., Result] = tiny.run


@pytest.fixture(scope="module")
def made(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `passed`, `failed` and `ungated` merges and the comparison `compared`. Copy what a test changes.

    Beside the first two lies what their merges told other tools: `passed.sarif` and so on.
    """
    folder = tmp_path_factory.mktemp("made")
    policies = {}
    for name, text in (("permissive", tiny.PERMISSIVE), ("strict", tiny.STRICT)):
        policies[name] = folder / f"{name}.yaml"
        policies[name].write_text(text)
    recipe = tiny.recipe(inputs, folder, "linear")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGNMERGE_CACHE", str(folder / "cache"))
        (folder / "cache").mkdir()
        limit = ("--limit", "6")
        told = {
            name: [f"--{kind}={folder / name}.{kind}" for kind in ("sarif", "junit", "summary")]
            for name in ("passed", "failed")
        }
        gated = [
            ("merge", recipe, "--policy", policies[policy], *limit, *told[name], "-o", folder / name)
            for policy, name in (("permissive", "passed"), ("strict", "failed"))
        ]
        codes = [
            *(run(*arguments).exit_code for arguments in gated),
            run("merge", recipe, "-o", folder / "ungated").exit_code,
            run(
                *("compare", recipe, "--methods", "linear,ties", "--policy", policies["permissive"], *limit),
                *("-o", folder / "compared"),
            ).exit_code,
        ]
    assert codes == [0, 3, 0, 0]
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[[str], Path]:
    def one(name: str) -> Path:
        return Path(shutil.copytree(made / name, tmp_path / name))

    return one


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def broken(folder: Path, *names: str) -> None:
    """`verify` exits 5 and names every one of `names`."""
    found = run("verify", folder)
    assert found.exit_code == 5, found.output
    for name in names:
        assert name in found.stderr


@pytest.mark.parametrize(
    ("place", "verdicts"),
    [
        ("passed", {"passed": "PASS"}),
        ("passed/records", {"passed": "PASS"}),
        ("failed", {"failed": "FAIL"}),
        ("failed/records", {"failed": "FAIL"}),
        ("ungated", {"ungated": "ungated"}),
        ("compared", {"linear": "PASS", "ties": "PASS"}),
    ],
)
def test_untouched_folders_verify_and_show_their_verdicts(made: Path, place: str, verdicts: dict[str, str]) -> None:
    found = run("verify", made / place, "--json")
    shown = json.loads(found.stdout)
    assert shown["findings"] == []
    assert shown["verdicts"] == verdicts
    assert found.exit_code == 0


def test_ungated_is_said_in_words(made: Path) -> None:
    assert "ungated: ungated" in run("verify", made / "ungated").stdout


@pytest.mark.parametrize("place", ["passed", "ungated", "compared/models/ties"])
def test_weights_cannot_hide_behind_a_deleted_manifest(copy: Callable[[str], Path], place: str) -> None:
    top = copy(place.split("/")[0])
    model = top.parent / place
    flip(model / "model.safetensors")
    (model / "manifest.json").unlink()
    broken(top, "manifest.json: missing")


def test_changed_weights_are_found_from_the_records_too(copy: Callable[[str], Path]) -> None:
    out = copy("passed")
    flip(out / "model.safetensors")
    broken(out / "records", "model.safetensors: changed")


@pytest.mark.parametrize("named", [".", "records"])
def test_weights_beside_a_rejection_are_found(made: Path, copy: Callable[[str], Path], named: str) -> None:
    out = copy("failed")
    shutil.copy(made / "passed" / "model.safetensors", out)
    broken(out / named, "model.safetensors: lies in the folder of a rejected merge")


def test_a_model_that_is_no_merge_of_the_run_is_found(made: Path, copy: Callable[[str], Path]) -> None:
    out = copy("compared")
    shutil.copytree(made / "passed", out / "models" / "other")
    broken(out, "models/other: is no merge of this run")


@pytest.mark.parametrize(
    "name",
    [
        "merge.json",
        "README.md",
        "config.json",
        "tokenizer.json",
        "manifest.json",
        "records/policy.yaml",
        "records/report.html",
        "records/run.json",
        "records/verdicts/passed.json",
        "records/merges/passed.json",
        "records/audits/anchor/audit.json",
        "records/audits/passed/items.jsonl",
    ],
)
def test_one_changed_byte_or_a_deleted_file_is_named(copy: Callable[[str], Path], name: str) -> None:
    out = copy("passed")
    original = (out / name).read_bytes()
    flip(out / name)
    found = run("verify", out)
    assert found.exit_code == 5, found.output
    (out / name).unlink()
    if name == "records/run.json":  # what is left looks like a merge that was never gated, with another card
        broken(out, "README.md")
    elif name == "records/policy.yaml":  # a run may have several, so the verdict that needs it is what is named
        broken(out, "verdicts/passed.json: its policy permissive")
    else:
        broken(out, name.removeprefix("records/").removesuffix("/audit.json").removesuffix("/items.jsonl"))
    (out / name).write_bytes(original)
    assert run("verify", out).exit_code == 0


@pytest.mark.parametrize(("name", "code", "decision"), [("passed", 0, "PASS"), ("failed", 3, "FAIL")])
def test_a_merge_under_a_policy_tells_other_tools(made: Path, name: str, code: int, decision: str) -> None:
    texts = {kind: (made / f"{name}.{kind}").read_text() for kind in ("sarif", "junit", "summary")}
    assert sarif_problems(texts["sarif"]) == [[], []]
    assert json.loads(texts["sarif"])["runs"][0]["invocations"] == [{"executionSuccessful": True, "exitCode": code}]
    assert junit_problems(texts["junit"]) == []
    assert ("<failure" in texts["junit"]) is (code == 3)
    assert summary_problems(texts["summary"]) == []
    assert texts["summary"].startswith(f"## AlignMerge: {decision}\n")


@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "records/audits/passed/items.jsonl", "records/policy.yaml", "records/verdicts/passed.json"],
)
def test_K01_each_tampering_is_told_in_every_form(copy: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    out = copy("passed")
    flip(out / name)
    valid = {"sarif": [[], []], "junit": [], "markdown": []}
    check = {"sarif": sarif_problems, "junit": junit_problems, "markdown": summary_problems}
    for kind, problems in valid.items():
        told = tmp_path / f"told.{kind}"
        found = run("export", out, "--format", kind, "-o", told)
        assert found.exit_code == 5, found.output
        text = told.read_text()
        assert check[kind](text) == problems
        named = "verdicts/passed.json" if name == "records/policy.yaml" else name.removeprefix("records/")
        assert named.removesuffix("/items.jsonl").split("/")[-1] in text


def edit(path: Path, change: Callable[[dict[str, object]], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run.update(title="Another title"),
        lambda run: run.update(notes=["nothing was cut"]),
        lambda run: run["policy"]["summary"][0].update(limit=0.5),
        lambda run: run["entries"][0].pop("role"),
        lambda run: run["entries"][1].update(also=None),
        lambda run: run["entries"][1].update(merge=None),
        lambda run: run["entries"][1].update(role="expert"),
        lambda run: run["entries"][1].update(label="../passed"),
        lambda run: run["entries"][1].update(audit="../../elsewhere"),
        lambda run: run["entries"].pop(0),
        lambda run: run["entries"].pop(1),
    ],
)
def test_an_edited_run_json_is_refused_or_found(
    copy: Callable[[str], Path], change: Callable[[dict[str, object]], None]
) -> None:
    out = copy("passed")
    edit(out / "records" / "run.json", change)
    assert run("verify", out).exit_code == 5


@pytest.mark.parametrize("text", ["[]", "null", '{"schema": "alignmerge.merge/1"}'])
def test_a_merge_record_of_another_shape_is_a_finding(copy: Callable[[str], Path], text: str) -> None:
    out = copy("passed")
    (out / "records" / "merges" / "passed.json").write_text(text)
    broken(out, "merges/passed.json")


def test_a_merge_record_that_names_another_anchor_is_found(copy: Callable[[str], Path]) -> None:
    out = copy("passed")
    for path in (out / "merge.json", out / "records" / "merges" / "passed.json"):
        edit(path, lambda value: value["inputs"][0].update(digest="0" * 64))  # type: ignore[index]
    broken(out, "merges/passed.json: was made from anchor 000000000000")


def test_report_finds_the_records_of_a_merge_and_renders_the_same_bytes(copy: Callable[[str], Path]) -> None:
    out = copy("passed")
    page = (out / "records" / "report.html").read_bytes()
    (out / "records" / "report.html").unlink()
    broken(out, "report.html: missing")
    assert run("report", out).exit_code == 0
    assert (out / "records" / "report.html").read_bytes() == page
    assert run("verify", out).exit_code == 0


def test_gate_refuses_an_anchor_that_the_merge_was_not_made_from(made: Path) -> None:
    records = made / "passed" / "records"
    policy = made / "permissive.yaml"
    assert run("gate", made / "passed", "--policy", policy, "--anchor", records / "audits" / "anchor").exit_code == 0
    other = run("gate", made / "passed", "--policy", policy, "--anchor", records / "audits" / "passed")
    assert other.exit_code == 5
    assert "was made from the anchor" in str(other.exception)
