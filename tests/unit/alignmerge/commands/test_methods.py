"""`alignmerge methods` shows what the registry holds."""

import json

import pytest
from click.testing import CliRunner

from alignmerge.cli import cli
from alignmerge.errors import RecipeError
from alignmerge.merger.methods.registry import METHODS


def test_list_names_every_method() -> None:
    result = CliRunner().invoke(cli, ["methods", "list"], catch_exceptions=False)
    assert [line.split()[0] for line in result.output.splitlines()] == list(METHODS)
    rows = json.loads(CliRunner().invoke(cli, ["methods", "list", "--json"], catch_exceptions=False).output)
    assert [row["summary"] for row in rows] == [method.summary for method in METHODS.values()]


@pytest.mark.parametrize("name", METHODS)
def test_show_gives_every_parameter_with_a_default_that_is_allowed(name: str) -> None:
    plain = CliRunner().invoke(cli, ["methods", "show", name], catch_exceptions=False).output
    shown = json.loads(CliRunner().invoke(cli, ["methods", "show", name, "--json"], catch_exceptions=False).output)
    assert METHODS[name].reference in plain
    for row, parameter in zip(shown["parameters"], METHODS[name].parameters, strict=True):
        assert f"  {row['name']} (" in plain
        assert parameter.check(row["default"]) == parameter.default


def test_unknown_method_names_the_nearest() -> None:
    result = CliRunner().invoke(cli, ["methods", "show", "teis"])
    assert isinstance(result.exception, RecipeError)
    assert "ties" in str(result.exception)
