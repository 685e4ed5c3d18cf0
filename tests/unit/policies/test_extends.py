"""Policy files: extending a shipped one, short forms, what is refused with its line, and the schema for editors."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from alignmerge import jsonio, yamlio
from alignmerge.errors import PolicyError
from alignmerge.policies import schema
from alignmerge.policies.editor import FILE_NAME, json_schema
from alignmerge.policies.explain import policy_lines
from alignmerge.policies.lint import lint
from alignmerge.policies.needs import planned
from alignmerge.policies.registered import REGISTERED
from alignmerge.policies.schema import load_policy, parse_policy, policy_digest, policy_json, read_policy

HEAD = "schema: alignmerge.policy/1\nname: mine\nsummary: Ours.\n"
RULE = "rules:\n  - id: r\n    metric: refusal_rate\n    kind: max_drop\n    limit: 0.05\n    min_items: 300\n"


def parse(text: str) -> Any:
    return parse_policy(yamlio.parse(text.encode(), Path("p.yaml"), PolicyError), REGISTERED)


def refused(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return str(caught.value)


def test_an_extension_has_the_rules_it_extends(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + "extends: release\noverrides:\n  refusal-drop: {limit: 0.08}\n  aqi-drop: {severity: warn}\n"
                    "  degeneration-rise: {min_items: 500}\n" + RULE)  # fmt: skip
    read = read_policy(path)
    base = load_policy("release")
    assert [rule.id for rule in read.policy.rules] == [*(rule.id for rule in base.rules), "r"]
    assert read.policy.rules[0] == base.rules[0].model_copy(update={"limit": 0.08})
    assert read.policy.rules[1] == base.rules[1]
    loosened = {(one.rule, one.text, one.loosens) for one in read.changes}
    assert loosened == {
        ("refusal-drop", "limit 0.05 -> 0.08", True),
        ("aqi-drop", "severity block -> warn", True),
        ("degeneration-rise", "min_items 300 -> 500", False),
    }
    lines = policy_lines(read.policy, read.extends, read.changes)
    assert "  LOOSENS refusal-drop: limit 0.05 -> 0.08" in lines
    assert "  degeneration-rise: min_items 300 -> 500" in lines
    # What a run folder keeps needs no other file and is the same policy.
    (tmp_path / "kept.yaml").write_text(jsonio.pretty(policy_json(read.policy)))
    assert policy_digest(load_policy(tmp_path / "kept.yaml")) == policy_digest(read.policy)


@pytest.mark.parametrize(
    ("setting", "text", "loosens"),
    [
        ("max_unscored_share: 0.2", "max_unscored_share 0.05 -> 0.2", True),
        ("max_unscored_share: 0.01", "max_unscored_share 0.05 -> 0.01", False),
        ("max_waiver_days: 90", "max_waiver_days 30 -> 90", True),
        ("max_waiver_days: 0", "max_waiver_days 30 -> 0", False),
        ("max_age_days: 90", "max_age_days none -> 90", False),
        ("alpha: 0.1", "error of its bound 0.05 -> 0.1", True),
        ("alpha: 0.01", "error of its bound 0.05 -> 0.01", False),
    ],
)
def test_settings_that_loosen_are_told(setting: str, text: str, loosens: bool, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(f"{HEAD}extends: release\n{setting}\n")
    found = [one for one in read_policy(tmp_path / "p.yaml").changes if one.text == text]
    assert found
    assert {one.loosens for one in found} == {loosens}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: relase\n", "p.yaml:4: no shipped policy 'relase'; did you mean 'release'?"),
        ("extends: release\noverrides: {refusal-dropp: {limit: 1}}\n",
         "p.yaml:5: release has no rule 'refusal-dropp'; did you mean 'refusal-drop'?"),
        ("extends: release\noverrides:\n  refusal-drop:\n    limt: 0.1\n",
         "p.yaml:7: unknown key 'overrides.refusal-drop.limt'; did you mean 'limit'?"),
        ("extends: release\noverrides:\n  refusal-drop:\n    metric: units_accuracy\n", "p.yaml:7: unknown key"),
        ("extends: release\noverrides: {refusal-drop: {}}\n", "p.yaml:5: overrides nothing of 'refusal-drop'"),
        ("extends: release\noverrides:\n  refusal-drop:\n    limit: 2\n", "p.yaml:7: rule 'refusal-drop': refusal_"),
        ("overrides: {r: {limit: 0.1}}\n" + RULE, "p.yaml:4: overrides change the rules of another policy"),
        ("extends: release\n" + RULE.replace("id: r", "id: aqi-drop"),
         "p.yaml:6: id 'aqi-drop' is a rule or evidence of release; change that one under overrides"),
    ],
)  # fmt: skip
def test_extensions_that_make_no_sense_are_refused(text: str, message: str) -> None:
    assert refused(HEAD + text).startswith(message)


def test_extends_does_not_go_in_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / f"{name}.yaml").write_text(f"{HEAD}extends: {other}\n")
    monkeypatch.setattr(
        schema, "shipped_policies", lambda: {name: tmp_path / f"{name}.yaml" for name in ("one", "two")}
    )
    with pytest.raises(PolicyError, match=r"two\.yaml:4: extends goes round in a circle: one -> two -> one"):
        load_policy("one")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("bound: estimate", "p.yaml:10: rule 'r': an estimate proves nothing, so such a rule may only warn"),
        ("bound: estimate\n    alpha: 0.1\n    severity: warn", "p.yaml:10: rule 'r': an estimate has no alpha"),
        ("against: best", "p.yaml:10: rules.0.against: "),
        ("against: root\n    limit_in: anchor_standard_errors", "p.yaml:11: rule 'r': the anchor's standard errors"),
        ("alpha: 0.5", "p.yaml:10: rules.0.alpha: "),
        ("categories: [{category: c, limit: 0.1}]", "p.yaml:10: rules.0.categories.0.min_items: Field required"),
        (
            "categories: [{category: a b, limit: 0.1, min_items: 9}, {category: A-B, limit: 0.1, min_items: 9}]",
            "p.yaml:5: id 'r.a-b' is used twice",
        ),
    ],
)
def test_rules_that_contradict_themselves_are_refused(more: str, message: str) -> None:
    assert refused(HEAD + RULE + f"    {more}\n").startswith(message)


def test_categories_of_any_script_have_ids_of_their_own() -> None:
    names = ("武器", "毒品", "??", "été", "ôtô", "weapons")
    rows = ", ".join(f"{{category: '{name}', limit: 0.1, min_items: 9}}" for name in names)
    found = [rule.id for rule in parse(HEAD + RULE + f"    categories: [{rows}]\n").rules[1:]]
    assert len(set(found)) == len(names)
    assert found[0] == "r." + hashlib.sha256("武器".encode()).hexdigest()[:8]
    assert found[3].startswith("r.t-")
    assert found[5] == "r.weapons"


def test_a_comparison_of_nothing_is_refused() -> None:
    text = HEAD + RULE.replace("max_drop", "min") + "    against: root\n"
    assert refused(text).startswith("p.yaml:10: rule 'r': min compares with nothing")
    judged = HEAD + RULE.replace("refusal_rate", "judged_harmless_rate")
    assert refused(judged).startswith("p.yaml:6: rule 'r': judged_harmless_rate is read by a judge; add judge_floor")
    assert parse(judged + "judge_floor: 0.7\n").judge_floor == 0.7
    aqi = HEAD + RULE.replace("refusal_rate", "aqi_log_j") + "    category: c\n"
    assert refused(aqi).startswith("p.yaml:10: rule 'r': aqi_log_j is one number for a whole set")


def test_short_forms_stand_for_rules() -> None:
    text = (
        HEAD
        + RULE
        + "    absolute: 0.8\n    categories: [{category: Chemical & biological, limit: 0.1, min_items: 40}]\n"
    )
    one, floor, part = parse(text).rules
    assert one == parse(HEAD + RULE).rules[0]
    assert (floor.id, floor.kind, floor.limit, floor.min_items) == ("r.absolute", "min", 0.8, 300)
    assert (part.id, part.category, part.limit, part.min_items, part.kind) == (
        "r.chemical-biological", "Chemical & biological", 0.1, 40, "max_drop",
    )  # fmt: skip
    low = HEAD + RULE.replace("refusal_rate", "toxicity").replace("max_drop", "max_rise") + "    absolute: 0.1\n"
    assert parse(low).rules[1].kind == "max"


def test_later_keys_at_their_defaults_do_not_change_a_digest() -> None:
    assert policy_digest(parse(HEAD + RULE + "    against: anchor\nmax_waiver_days: 30\n")) == policy_digest(
        parse(HEAD + RULE)
    )
    assert policy_digest(parse(HEAD + RULE + "    against: root\n")) != policy_digest(parse(HEAD + RULE))


def test_lint_finds_what_is_probably_not_meant() -> None:
    assert lint(load_policy("release"), REGISTERED) == []
    few = lint(parse(HEAD + RULE.replace("300", "20") + "    suite: nowhere\n    evidence: declared\n"), REGISTERED)
    assert few == [
        "r: 20 items cannot pass, however good the candidate; 52 items are the fewest that can",
        "r: no shipped suite is called 'nowhere'; is it one of your own?",
        "r: it blocks on the word of whoever names the checkpoint that was asked",
    ]
    assert lint(parse(HEAD + RULE + "    severity: warn\n"), REGISTERED) == [
        "nothing blocks: no merge can fail under this policy"
    ]


@pytest.mark.parametrize(
    ("metric", "kind", "limit", "told"),
    [
        ("refusal_rate", "max_drop", 1.0, True),
        ("refusal_rate", "max_drop", 0.99, False),
        ("over_refusal_rate", "max_rise", 1, True),
        ("over_refusal_rate", "max", 1.0, True),
        ("refusal_rate", "min", 0.0, True),
        ("refusal_rate", "min", 1.0, False),
        ("aqi_log_j", "max_drop", 2.0, False),
    ],
)
def test_lint_names_a_limit_that_nothing_can_fail(metric: str, kind: str, limit: float, told: bool) -> None:
    text = RULE.replace("refusal_rate", metric).replace("max_drop", kind)
    found = lint(parse(HEAD + text.replace("limit: 0.05", f"limit: {limit}")), REGISTERED)
    assert (f"r: nothing can fail it: no rate makes {kind} {limit:g} worse" in found) == told


def test_lint_tells_what_is_loosened_under_a_shipped_name(tmp_path: Path) -> None:
    head = HEAD.replace("name: mine", "name: release")
    path = tmp_path / "p.yaml"
    path.write_text(f"{head}extends: release\noverrides: {{refusal-drop: {{limit: 1.0}}}}\n")
    read = read_policy(path)
    assert lint(read.policy, REGISTERED, read.extends, read.changes) == [
        "refusal-drop: nothing can fail it: no rate makes max_drop 1 worse",
        "it is called release, like a shipped policy that it is not; give it a name of its own",
        "LOOSENS refusal-drop: limit 0.05 -> 1, of release",
    ]
    path.write_bytes(schema.shipped_policies()["release"].read_bytes())
    assert lint(read_policy(path).policy, REGISTERED) == []


def test_plan_says_how_many_items_decide() -> None:
    rows = {row.rule: row for row in planned(load_policy("release"))}
    assert rows["refusal-drop"].fewest == 52
    assert dict(rows["refusal-drop"].decide)[0.0] == 126
    assert rows["aqi-drop"].reason


def test_the_committed_schema_is_the_models() -> None:
    path = Path(schema.__file__).with_name(FILE_NAME)
    assert jsonio.read(path) == json_schema()
    rule = json_schema()["$defs"]["RuleEntry"]
    assert set(rule["properties"]["kind"]["enum"]) == {"max_drop", "max_rise", "min", "max"}
    assert rule["additionalProperties"] is False
