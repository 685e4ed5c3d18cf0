"""Records in, one self-contained HTML page out: no outside request, the same bytes every time.

Notable decisions:
- Autoescape is on for every template, and every printed string passes the one sanitiser (`text.clean`) on its way
  out, through the environment's `finalize`; a template cannot forget it.
- The page carries its own Content-Security-Policy: nothing loads and nothing runs but the one script of ours, named by
  its digest, not even where a string slipped through. Everything can be read without the script; it sorts and filters.
- Time comes from the record alone.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from alignmerge.reports.model import ReportInput
from alignmerge.reports.sections import SECTIONS
from alignmerge.reports.text import ANSWER_CHARACTERS, clean, digest_of, moment, short_digest


def _source(name: str) -> str:
    return (files("alignmerge.reports") / "templates" / name).read_text(encoding="utf-8")


def _printed(value: Any) -> Any:
    if hasattr(value, "__html__"):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf"):
        return f"{value:g}" if isinstance(value, float) else str(value)
    raise TypeError(f"a report prints text and finite numbers, not {value!r}")


@cache
def environment(redact: bool = False) -> Environment:
    """The template environment of reports: escaping everywhere, undefined names are errors.

    With `redact`, the texts of items are printed as digests.
    """
    env = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_source),
        finalize=_printed,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["answer"] = digest_of if redact else lambda text: clean(text, ANSWER_CHARACTERS)
    env.filters["short"] = short_digest
    env.filters["moment"] = moment
    return env


def source_hash(env: Environment, name: str) -> str:
    """The CSP source of an inlined file of ours (style.css, page.js), for example "sha256-..."."""
    text = env.get_template(name).render()
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def render(report: ReportInput, redact: bool = False) -> str:
    """The report as one HTML page, valid UTF-8, byte-identical for equal input.

    With `redact`, no prompt and no answer is on the page, only their digests and lengths.
    """
    env = environment(redact)
    views = [(section, section.view(report)) for section in SECTIONS if section.shown(report)]
    page = env.get_template("page.html.j2")
    return page.render(
        report=report, sections=views, style_hash=source_hash(env, "style.css"), script_hash=source_hash(env, "page.js")
    )
