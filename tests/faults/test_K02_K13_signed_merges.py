"""K02-K13: signed merges of tiny checkpoints, changed in every way. `verify` exits 5 and names the file."""

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio
from alignmerge.pipeline.kept import MARK
from alignmerge.pipeline.signing import sign_merge
from alignmerge.provenance import dsse, keys, manifest
from alignmerge.provenance.ledger import FILE_NAME, read
from alignmerge.provenance.statement import write_signed
from tests.faults.signed_merges import POLICY, command, make_signed, write_recipe


@pytest.fixture(scope="module")
def signed(family: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See make_signed. Read-only: tests copy the merge that they change."""
    folder = tmp_path_factory.mktemp("signed")
    (folder / "cache").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIGNMERGE_CACHE", str(folder / "cache"))
        return make_signed(folder, family)


@pytest.fixture
def good(signed: Path, tmp_path: Path) -> Path:
    """A copy of the merge that passed, and of the public key as `k.pub` beside it."""
    shutil.copytree(signed / "good", tmp_path / "good")
    shutil.copy(signed / "k.pub", tmp_path / "k.pub")
    return tmp_path / "good"


def refused(folder: Path, capsys: pytest.CaptureFixture[str], key: Path | None = None) -> str:
    """What `verify --key` says on standard error of a merge that it refuses with exit code 5."""
    capsys.readouterr()
    assert command("verify", folder, "--key", key or folder.parent / "k.pub") == 5
    return capsys.readouterr().err


def key_of(signed: Path) -> keys.SigningKey:
    return keys.load(signed / "k")


def test_a_good_merge_passes_and_is_signed(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", good, "--key", good.parent / "k.pub", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == [] and found["verdicts"] == {"good": "PASS"}
    assert found["signer"] == keys.load_public(good.parent / "k.pub").keyid
    checked = {"records/seal.intoto.jsonl", "records/verdicts/good.intoto.jsonl", "model.sig"}
    assert checked < set(found["checked"])


def test_without_a_key_the_signer_is_named_and_not_vouched_for(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("verify", good) == 0
    keyid = keys.load_public(good.parent / "k.pub").keyid
    assert f"signed by the key {keyid[:12]} that lies beside it" in capsys.readouterr().out


FILES = [
    "model.safetensors",
    "config.json",
    "README.md",
    "merge.json",
    "model.sig",
    "records/run.json",
    "records/policy.yaml",
    "records/report.html",
    "records/verdicts/good.json",
    "records/verdicts/good.intoto.jsonl",
    "records/audits/good/audit.json",
    "records/audits/anchor/items.jsonl",
    "records/merges/good.json",
    "records/drifts/good.json",
    "records/seal.intoto.jsonl",
    "records/signer.pub",
]


@pytest.mark.parametrize("name", FILES)
def test_K01_any_changed_byte_of_a_signed_merge_is_named(
    good: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = good / name
    data = bytearray(path.read_bytes())
    for position in (0, len(data) // 2, len(data) - 2):
        data[position] ^= 1
        path.write_bytes(data)
        assert name in refused(good, capsys), position
        data[position] ^= 1


def test_K01_white_space_in_a_record_is_a_change_too(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = good / "records" / "run.json"
    path.write_text(path.read_text().replace("\n", "\n ", 1))
    assert "records/run.json: changed since the records were sealed" in refused(good, capsys)


def test_K02_added_removed_and_renamed_files_are_named(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (good / "records" / "extra.json").write_text("{}")
    assert "records/extra.json: was not there when the records were sealed" in refused(good, capsys)
    (good / "records" / "extra.json").unlink()
    (good / "records" / "policy.yaml").rename(good / "records" / "policy.other.yaml")
    said = refused(good, capsys)
    assert "records/policy.yaml: missing since" in said and "records/policy.other.yaml: was not there" in said
    (good / "records" / "policy.other.yaml").rename(good / "records" / "policy.yaml")
    (good / "vocab.json").write_text("{}")
    assert "vocab.json" in refused(good, capsys)
    (good / "vocab.json").unlink()
    (good / "tokenizer.json").unlink()
    assert "tokenizer.json" in refused(good, capsys)


@pytest.mark.parametrize("name", ["model.sig", "records/seal.intoto.jsonl", "records/verdicts/good.intoto.jsonl"])
def test_K02_a_removed_signature_is_missed(good: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (good / name).unlink()
    assert name in refused(good, capsys)


def test_K03_what_is_left_out_is_inside_the_signed_payload(
    good: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = good / "records" / "seal.intoto.jsonl"
    value = jsonio.loads(dsse.loads(path.read_bytes(), "seal").payload)
    assert value["predicate"]["unsealed"] == ["records/seal.intoto.jsonl", "records/approvals/"]
    value["predicate"]["unsealed"].append("records/run.json")
    value["subject"] = [row for row in value["subject"] if row["name"] != "records/run.json"]
    write_signed(path, jsonio.canonical(value), key_of(signed))  # even with the right key
    assert "leaves other files unsealed than it may" in refused(good, capsys)


def test_K05_a_verdict_turned_round_is_found(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(signed / "bad.kept-staged", tmp_path / "bad.kept-staged")
    path = tmp_path / "bad.kept-staged" / "records" / "verdicts" / "bad.json"
    honest = path.read_text()
    forged = honest.replace('"INCONCLUSIVE"', '"PASS"').replace('"FAILED"', '"PASSED"')
    twice = honest.replace('"decision": "INCONCLUSIVE"', '"decision": "INCONCLUSIVE", "decision": "PASS"', 1)
    assert forged != honest != twice
    for text in (forged, twice):
        path.write_text(text)
        assert "verdicts/bad" in refused(tmp_path / "bad.kept-staged", capsys, signed / "k.pub")


def test_K05_records_rewritten_consistently_are_found_by_the_seal_alone(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = good / "records" / "run.json"
    path.write_text(path.read_text().replace('"Merge good"', '"Merge best"'))
    assert command("report", good / "records") == 0
    for name in ("records/seal.intoto.jsonl", "records/signer.pub", "records/verdicts/good.intoto.jsonl", "model.sig"):
        (good / name).rename(good.parent / Path(name).name)
    assert command("verify", good) == 0
    assert "unsigned: what is here agrees with itself" in capsys.readouterr().out
    for name in ("records/seal.intoto.jsonl", "records/signer.pub", "records/verdicts/good.intoto.jsonl", "model.sig"):
        (good.parent / Path(name).name).rename(good / name)
    said = refused(good, capsys)
    assert "records/run.json: changed since" in said and "records/report.html: changed since" in said


def test_K06_valid_signatures_by_another_key_are_refused(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys.new(good.parent / "mallory")
    (good / "model.sig").unlink()
    shutil.rmtree(good / "records" / "approvals", ignore_errors=True)
    sign_merge(good, "good", keys.load(good.parent / "mallory"))
    assert command("verify", good) == 0  # all of it holds, for whoever trusts that key
    said = refused(good, capsys)
    for name in ("signer.pub", "seal.intoto.jsonl", "verdicts/good.intoto.jsonl", "model.sig"):
        assert name in said
    assert "another key" in said


def test_K07_signatures_of_another_checkpoint_are_a_replay(
    good: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = signed / "bad.kept-staged"
    shutil.copy(other / "model.sig", good / "model.sig")
    assert "model.sig: was made for other weights: model.safetensors" in refused(good, capsys)
    shutil.copy(signed / "good" / "model.sig", good / "model.sig")
    shutil.copy(other / "records/verdicts/bad.intoto.jsonl", good / "records/verdicts/good.intoto.jsonl")
    assert "is the signature of another verdict" in refused(good, capsys)
    shutil.rmtree(good / "records")
    shutil.copytree(other / "records", good / "records")
    said = refused(good, capsys)
    assert "was made for another checkpoint" in said and "manifest.json" in said


def test_K07_weights_swapped_under_a_signed_manifest(
    good: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(signed / "bad.kept-staged" / "model.safetensors", good / "model.safetensors")
    assert "model.safetensors: changed" in refused(good, capsys)


def test_K08_unsigned_where_a_signature_is_demanded(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (good / "model.sig", good / "records/seal.intoto.jsonl", good / "records/signer.pub"):
        path.unlink()
    (good / "records/verdicts/good.intoto.jsonl").unlink()
    assert "the merge is not signed, and must be by" in refused(good, capsys)
    assert command("verify", good) == 0


@pytest.mark.parametrize("change", ["payloadType", "predicateType", "_type", "subject"])
def test_K09_anything_but_that_kind_of_statement_is_refused(
    good: Path, signed: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = good / "records" / "seal.intoto.jsonl"
    envelope = dsse.loads(path.read_bytes(), "seal")
    value: Any = jsonio.loads(envelope.payload)
    kind = "application/json" if change == "payloadType" else dsse.IN_TOTO
    if change == "subject":
        value["subject"] = [*value["subject"], value["subject"][0]]
    elif change != "payloadType":
        value[change] = "https://in-toto.io/Statement/v0.1"
    path.write_bytes(dsse.dumps(dsse.sign(jsonio.canonical(value), key_of(signed), kind)))
    assert f"seal.intoto.jsonl: {change}".replace(": _type", ": key '_type'") in refused(good, capsys).replace(
        ": subject must", ": subject"
    )


def test_K10_a_moved_folder_keeps_its_digest_and_signatures(good: Path) -> None:
    before = manifest.read(good).digest
    moved = good.parent / "elsewhere" / "another name"
    moved.parent.mkdir()
    good.rename(moved)
    assert manifest.read(moved).digest == before
    assert command("verify", moved, "--key", good.parent / "k.pub") == 0


@pytest.mark.parametrize("workers", [1, 16])
def test_K10_any_number_of_threads_gives_the_same_manifest(
    signed: Path, tmp_path: Path, workers: int, empty_cache: Path
) -> None:
    assert command("merge", signed / "good.yaml", "-o", tmp_path / "out", "--threads", str(workers)) == 0
    assert manifest.read(tmp_path / "out") == manifest.read(signed / "good")


def test_K11_canonical_bytes_do_not_depend_on_order_and_tell_unicode_forms_apart() -> None:
    assert jsonio.canonical({"b": 1, "a": [1.0, 1e-7]}) == b'{"a":[1.0,1e-07],"b":1}'
    composed, decomposed = (unicodedata.normalize(form, "e\u0301") for form in ("NFC", "NFD"))
    assert jsonio.digest({composed: 1}) != jsonio.digest({decomposed: 1})
    assert jsonio.canonical({decomposed: 1, composed: 2}) == jsonio.canonical({composed: 2, decomposed: 1})


def test_K11_a_file_renamed_to_another_unicode_form_is_two_differences(good: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.safetensors") for form in ("NFC", "NFD"))
    shutil.copy(good / "model.safetensors", good / composed)
    listed = manifest.build_manifest(good, tensor_count=1, parameter_count=1)
    (good / composed).rename(good / decomposed)
    names = {str(one) for one in manifest.verify(good, listed) if "safetensors" in one.path}
    assert names == {f"extra: {decomposed}", f"missing: {composed}"}


def test_K12_the_recipe_run_again_gives_the_same_digest(
    good: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("verify", good, "--rerun") == 0
    assert "rerun: reproduced: the same digest" in capsys.readouterr().out
    assert [path.name for path in good.parent.iterdir() if "rerun" in path.name] == []


def test_K13_an_anchor_whose_audit_is_not_there_breaks_the_lineage(
    good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (good / "merge.json", good / "records" / "merges" / "good.json"):
        value = json.loads(path.read_bytes())
        value["inputs"][0]["digest"] = "0" * 64
        jsonio.write(path, value)
    assert "was made from anchor 000000000000, the anchor's audit is of another checkpoint" in refused(good, capsys)


def test_a_rejected_merge_that_is_kept_never_looks_like_a_release(
    signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not (signed / "bad").exists()
    kept = tmp_path / "bad.kept-staged"
    shutil.copytree(signed / "bad.kept-staged", kept)
    assert command("verify", kept, "--key", signed / "k.pub") == 0
    assert "bad: INCONCLUSIVE" in capsys.readouterr().out
    assert "# NOT A RELEASE: INCONCLUSIVE" in (kept / "README.md").read_text()
    assert "not-a-release" in (kept / "README.md").read_text().split("---")[1]
    released = tmp_path / "released"
    kept.rename(released)
    assert "its name must end in .kept-staged" in refused(released, capsys, signed / "k.pub")
    (released / MARK).unlink()
    assert "lies in the folder of a rejected merge" in refused(released, capsys, signed / "k.pub")


def test_every_merge_is_in_the_ledger_beside_it(signed: Path) -> None:
    entries = read(signed / FILE_NAME)
    assert [(one.event, one.name, one.decision) for one in entries] == [
        ("merge", "good", "PASS"),
        ("merge", "bad", "INCONCLUSIVE"),
    ]
    assert entries[0].subject == manifest.read(signed / "good").digest
    assert command("ledger", "verify", signed / FILE_NAME, "--key", signed / "k.pub") == 0


def test_a_gate_is_signed_and_written_down(signed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--policy", signed / "pass.yaml", "-o", tmp_path / "verdict.json", "--key", signed / "k")
    assert command("gate", signed / "good", *options) == 0
    key = keys.load_public(signed / "k.pub")
    envelope = dsse.loads((tmp_path / "verdict.intoto.jsonl").read_bytes(), "verdict")
    assert dsse.verify(envelope, key, "verdict") == (tmp_path / "verdict.json").read_bytes()
    [entry] = read(tmp_path / FILE_NAME)
    assert entry.event == "gate" and entry.parents["anchor"] == read(signed / FILE_NAME)[0].parents["anchor"]
    capsys.readouterr()
    assert command("gate", signed / "good", "--policy", signed / "pass.yaml") == 0
    said = capsys.readouterr().err
    assert "unsigned: no key was given" in said and "in no ledger" in said


SIGN_OFF = "required_evidence:\n  - {id: officer, kind: sign_off, summary: A safety officer signs.}\n"


def test_a_sign_off_is_pending_until_a_trusted_key_approves_this_checkpoint(
    signed: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = good.parent
    (folder / "signoff.yaml").write_text(POLICY % ("signoff", "1.0", "4") + SIGN_OFF)
    gate = ("gate", good, "--policy", folder / "signoff.yaml", "-o", folder / "verdict.json")
    assert command(*gate) == 4
    assert "Pending" in capsys.readouterr().out
    keys.new(folder / "officer")
    approve = ("approve", folder / "pending", "--rule", "officer", "--approver", "A. Officer")
    _pending_run(good, folder)
    assert command(*approve) == 2
    own = ("--key", folder / "officer", "--ledger", folder / "officer-ledger")
    assert command(*approve, *own) == 0
    assert [(one.event, one.decision) for one in read(folder / "officer-ledger")] == [("approve", "approved")]
    [approval] = (folder / "pending" / "records" / "approvals").iterdir()
    assert command(*gate, "--approval", approval) == 5
    assert command(*gate, "--approval", approval, "--approver-key", folder / "k.pub") == 5
    assert command(*gate, "--approval", approval, "--approver-key", folder / "officer.pub") == 0
    assert command(*approve[:-1], "Again", *own) == 2
    other = ("gate", signed / "bad.kept-staged", "--policy", folder / "signoff.yaml")
    assert command(*other, "--approval", approval, "--approver-key", folder / "officer.pub") == 4


def _pending_run(good: Path, folder: Path) -> None:
    """A run folder whose verdict is the pending one that `gate` wrote."""
    shutil.copytree(good / "records", folder / "pending" / "records")
    shutil.copy(folder / "verdict.json", folder / "pending" / "records" / "verdicts" / "good.json")


def test_successive_merges_are_one_lineage_and_what_they_spent_adds_up(
    signed: Path, family: Path, tmp_path: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "root.yaml").write_text(
        (signed / "pass.yaml").read_text().replace("limit: 1.0", "limit: 1.0, against: root")
    )
    recipe = write_recipe(tmp_path / "second.yaml", signed / "good", family / "expert_b", 0.5)
    options = (
        "--policy",
        tmp_path / "root.yaml",
        "--limit",
        "4",
        "--key",
        signed / "k",
        "--ledger",
        tmp_path / "ledger",
    )
    for name in (FILE_NAME, f"{FILE_NAME}.head"):
        shutil.copy(signed / name, tmp_path / name.replace(FILE_NAME, "ledger"))
    command("merge", recipe, *options, "-o", tmp_path / "second", "--on-fail", "keep-staged")
    made = next(path for path in (tmp_path / "second", tmp_path / "second.kept-staged") if path.exists())
    lineage = json.loads(next(made.glob("records/verdicts/*.json")).read_bytes())
    [verdict] = [value for key, value in lineage["predicate"].items() if key.startswith("https://")]
    first = read(signed / FILE_NAME)[0]
    assert verdict["lineage"]["root"] == first.parents["anchor"] and verdict["lineage"]["merges"] == 1
    assert set(verdict["lineage"]["spent"]) == {"refusal_rate"}
    assert command("verify", made, "--key", signed / "k.pub") == 0
    capsys.readouterr()
    digest = manifest.read(made).digest
    assert command("ledger", "show", tmp_path / "ledger", "--lineage", digest[:16], "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["root"] == first.parents["anchor"]
    assert [step["checkpoint"] for step in shown["steps"]] == [first.subject, digest]


def test_merge_takes_the_audit_of_the_root_where_no_ledger_knows_the_anchor(
    signed: Path, family: Path, tmp_path: Path, empty_cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "root.yaml"
    policy.write_text((signed / "pass.yaml").read_text().replace("limit: 1.0", "limit: 1.0, against: root"))
    recipe = write_recipe(tmp_path / "first.yaml", family / "anchor", family / "expert_b", 0.5)
    audit = signed / "good" / "records" / "audits" / "anchor"
    options = ("--policy", policy, "--limit", "4", "--ledger", tmp_path / "ledger")
    assert command("merge", recipe, *options, "-o", tmp_path / "unknown") == 4
    (tmp_path / "ledger").unlink()
    assert command("merge", recipe, *options, "--root", audit, "-o", tmp_path / "first") == 0
    assert "given as the root anchor; no ledger says so" in capsys.readouterr().out
    assert command("verify", tmp_path / "first") == 4  # the root's audit is not among the records
    assert "rests on an audit of root" in capsys.readouterr().err
    assert command("verify", tmp_path / "first", "--audit", audit) == 0
    second = write_recipe(tmp_path / "second.yaml", tmp_path / "first", family / "expert_b", 0.5)
    other = signed / "good" / "records" / "audits" / "good"
    for root, code in ((audit, 0), (other, 5)):
        assert command("merge", second, *options, "--root", root, "-o", tmp_path / f"second{code}") == code
    assert "the audit of the root is of" in capsys.readouterr().err
    assert not list(tmp_path.glob("second5*"))


def test_a_root_that_nothing_looks_at_is_a_usage_error(signed: Path, family: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", family / "anchor", family / "expert_b", 0.5)
    audit = signed / "good" / "records" / "audits" / "anchor"
    for options in ((), ("--policy", signed / "pass.yaml"), ("--fit", signed / "pass.yaml")):
        assert command("merge", recipe, *options, "--root", audit, "-o", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_a_merge_that_no_ledger_knows_counts_as_spent_without_measure(signed: Path, tmp_path: Path) -> None:
    from alignmerge.pipeline.lineage import lineage_of

    digest = manifest.read(signed / "good").digest
    found = lineage_of(tmp_path / "none", digest, signed / "good")
    assert found is not None and found.merges == 1 and found.spent == {}
    assert found.root == read(signed / FILE_NAME)[0].parents["anchor"]
    assert lineage_of(None, digest, signed / "good") is None
