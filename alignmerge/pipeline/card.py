"""The model card of a merge: what it was made of, how, and what a policy said of it."""

from alignmerge import jsonio
from alignmerge.merger.record import MergeRecord
from alignmerge.policies.explain import verdict_lines
from alignmerge.policies.verdict import Verdict
from alignmerge.terminal import printable

CARD = "README.md"


def card(record: MergeRecord, verdict: Verdict | None) -> str:
    """README.md with the metadata the Hugging Face hub reads, the recipe and the verdict (or `ungated`)."""
    import yaml

    models = list(dict.fromkeys(entry.reference for entry in record.inputs))
    state = verdict.decision if verdict else "ungated"
    front = {
        "base_model": models,
        "base_model_relation": "merge",
        "library_name": "transformers",
        "tags": ["merge", "alignmerge"],
        "alignmerge_verdict": state,
    }
    lines = ["---", yaml.safe_dump(front, sort_keys=True).strip(), "---", "", "# Merged with AlignMerge", ""]
    if verdict is None:
        lines += ["verdict: ungated. Nobody measured whether this merge kept its anchor's alignment.", ""]
    else:
        lines += ["```text", *(printable(line) for line in verdict_lines(verdict)), "```", ""]
    # Through JSON and sorted, so that a record read back gives the same bytes as the one that was written.
    recipe = yaml.safe_dump(jsonio.loads(jsonio.canonical(record.recipe)), sort_keys=True)
    lines += ["## Recipe", "", "```yaml", recipe.strip(), "```", ""]
    lines += [f"Checkpoint digest (SHA-256 of its manifest): `{record.output_digest}`", ""]
    return "\n".join(lines)
