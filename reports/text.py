"""Text and numbers as a report prints them.

Notable decisions:
- One sanitiser for everything that comes from a record. What cannot be seen or reorders what can be (control, format,
  bidirectional, zero-width, lone surrogates, unassigned) is shown as its escape.
- Long text is cut with a visible marker that carries the digest of the whole, so a cut is never silent.
- Printed digits never contradict a comparison: enough decimals are shown to keep value and limit in their true order.
"""

import hashlib
import re
import unicodedata

ANSWER_CHARACTERS = 700
FIELD_CHARACTERS = 2000
MOST_DECIMALS = 17
UNMEASURED = "not measured"

# Letters and marks by category, yet drawn as nothing.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
PLAIN = re.compile(r"[\n\t -~]*")
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _visible(char: str) -> bool:
    if char in "\n\t" or " " <= char <= "~":
        return True
    if char in INVISIBLE or 0xE0100 <= ord(char) <= 0xE01EF:
        return False
    return unicodedata.category(char) not in HIDDEN_CATEGORIES


def escape_hidden(text: str) -> str:
    """`text` with every character that is not plainly visible shown as its Python escape; newlines and tabs stay."""
    if PLAIN.fullmatch(text):
        return text
    return "".join(char if _visible(char) else char.encode("unicode_escape").decode("ascii") for char in text)


def clean(text: str, limit: int = FIELD_CHARACTERS) -> str:
    """`text` fit to be read: at most `limit` characters, then a marker with what is missing and the whole's SHA-256.

    HTML is not escaped here; the templates do that.
    """
    if len(text) <= limit:
        return escape_hidden(text)
    whole = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{escape_hidden(text[:limit])} […cut: {len(text) - limit:,} more characters, sha256 of all {whole[:16]}]"


def number(value: float, decimals: int = 3) -> str:
    """`value` with a fixed number of decimals and a true minus sign; "-0.000" is printed "0.000"."""
    text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "\u2212")


def signed(value: float, decimals: int = 3) -> str:
    """`number` with a plus sign where it is positive."""
    text = number(value, decimals)
    return text if text.startswith("\u2212") or not text.strip("0.") else f"+{text}"


def _order(left: float, right: float) -> int:
    return (left > right) - (left < right)


def _keeps_order(limit: float, value: float, decimals: int) -> bool:
    return _order(float(f"{value:.{decimals}f}"), float(f"{limit:.{decimals}f}")) == _order(value, limit)


def decimals_for(limit: float, *values: float, least: int = 3) -> int | None:
    """Fewest decimals (at least `least`) with which every value, printed, stands to the printed limit as in truth.

    None when no fixed number of decimals does (differences below 1e-17).
    """
    for decimals in range(least, MOST_DECIMALS + 1):
        if all(_keeps_order(limit, value, decimals) for value in values):
            return decimals
    return None


def against_limit(limit: float, *values: float | None) -> tuple[str, ...]:
    """The limit and the values as text with one number of decimals, in their true order; None is UNMEASURED."""
    decimals = decimals_for(limit, *(value for value in values if value is not None))
    written = repr if decimals is None else lambda value: number(value, decimals)
    return written(limit), *(UNMEASURED if value is None else written(value) for value in values)


def moment(text: str) -> str:
    """A record's time as people write it, "2026-01-31 12:00:00 UTC"; anything else is left as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)", text)
    return f"{found[1]} {found[2]} UTC" if found else text


def short_digest(digest: str) -> str:
    """The first 12 characters of a digest, enough to tell records apart by eye."""
    return digest[:12]


def digest_of(text: str) -> str:
    """What stands for a text that is not to be shown: the start of its SHA-256 and its length; empty for none."""
    if not text:
        return ""
    return (
        f"[sha256 {hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}, {len(text):,} characters]"
    )
