"""Building adapters on a tiny model: files, cards, parents, refusals to overwrite."""

import json
from pathlib import Path

import pytest

from alignmerge import jsonio
from alignmerge.errors import UsageError
from alignmerge.merger.checkpoint import open_checkpoint
from alignmerge.merger.lora import read_adapter
from alignmerge.models import load_model
from alignmerge.zoo import build as zoo
from alignmerge.zoo.train import RANK, Knobs


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo, "knobs", lambda name: Knobs(steps=2, learning_rate=1e-2, batch_rows=2))


@pytest.mark.usefixtures("short")
def test_an_expert_from_the_reference_is_a_readable_adapter_with_a_true_card(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    cards = zoo.build(["units"], tmp_path, trained_from="reference", reference=str(tiny_checkpoint))
    card = jsonio.read(tmp_path / "units" / zoo.CARD_FILE)
    assert cards == {"units": card}
    assert card["trained_from"] == str(tiny_checkpoint)
    assert card["base_digest"] == open_checkpoint(str(tiny_checkpoint)).digest
    assert (card["steps"], card["seed"], card["rank"], card["role"]) == (2, 0, RANK, "expert")
    adapter = read_adapter(tmp_path / "units")
    assert adapter.base == str(tiny_checkpoint)
    assert len(adapter.updates) == 7 * 2
    tuned, _ = load_model(str(tmp_path / "units"), dtype="float32")
    plain, _ = load_model(str(tiny_checkpoint), dtype="float32")
    changed = {
        name.split(".")[-2]
        for (name, one), (_, two) in zip(tuned.named_parameters(), plain.named_parameters(), strict=True)
        if bool((one != two).any())
    }
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.usefixtures("short")
def test_the_same_seed_builds_the_same_bytes_and_another_seed_others(tiny_checkpoint: Path, tmp_path: Path) -> None:
    made = {}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        made[name] = zoo.build(
            ["format"], tmp_path / name, trained_from="reference", seed=seed, reference=str(tiny_checkpoint)
        )["format"]
    weights = {name: (tmp_path / name / "format" / zoo.WEIGHTS_FILE).read_bytes() for name in made}
    assert weights["one"] == weights["two"] != weights["other"]
    assert made["one"] == made["two"]
    assert made["one"]["tensor_digest"] != made["other"]["tensor_digest"]


@pytest.mark.usefixtures("short")
def test_an_expert_is_trained_from_the_anchor_built_beside_it(tiny_checkpoint: Path, tmp_path: Path) -> None:
    cards = zoo.build(["arithmetic", "safety"], tmp_path, reference=str(tiny_checkpoint))
    assert list(cards) == ["safety", "arithmetic"]
    anchor = str(tmp_path / "safety")
    assert cards["safety"]["trained_from"] == str(tiny_checkpoint)
    assert cards["arithmetic"]["trained_from"] == anchor
    assert cards["arithmetic"]["base_digest"] == open_checkpoint(anchor).digest != cards["safety"]["base_digest"]
    assert read_adapter(tmp_path / "arithmetic").base == anchor


def test_nothing_is_overwritten_and_wrong_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    with pytest.raises(UsageError, match="already there"):
        zoo.build(["units"], tmp_path)
    with pytest.raises(UsageError, match="no adapter 'poetry'"):
        zoo.build(["poetry"], tmp_path / "new")
    with pytest.raises(UsageError, match="always trained from the reference"):
        zoo.build(["safety"], tmp_path / "new", trained_from="reference")
    assert not (tmp_path / "new").exists()


def test_config_is_plain_lora_that_names_its_base() -> None:
    config = zoo.adapter_config("zoo:safety")
    assert json.loads(json.dumps(config)) == config
    assert (config["peft_type"], config["r"], config["bias"]) == ("LORA", RANK, "none")
    assert config["base_model_name_or_path"] == "zoo:safety"
