"""D09: templates that cost too much are stopped within 2 processor seconds and 512 MB; D11: size cap."""

import resource

import pytest

from alignmerge.auditor.template import MAX_TEMPLATE_BYTES, ChatTemplate, check_template
from alignmerge.errors import UnsafeFormat

TAIL = "{{ messages[0]['content'] }}"
RECURSION = "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"


@pytest.mark.parametrize(
    "attack",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 10**10 }}",
        "{{ 'a' * 10**8 }}",
        "{{ 9 ** (9 ** 9) }}",
        RECURSION,
        "{% set x = 'a' * 99999 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    ],
)
def test_D09_cost_is_bounded(attack: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with pytest.raises(UnsafeFormat) as raised:
        check_template(attack + TAIL)
    assert raised.value.exit_code == 5
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 3.5  # 2 s of rendering, and starting Python
    if after.ru_maxrss > before.ru_maxrss:  # of the largest child so far, in KiB
        assert after.ru_maxrss < 600 * 1024


def test_D09_cost_that_waits_for_a_real_prompt() -> None:
    source = (
        "{% if messages[0].content == 'now' %}{% for a in range(99999) %}{% for b in range(99999) %}"
        "{% endfor %}{% endfor %}{% endif %}" + TAIL
    )
    check_template(source)
    with pytest.raises(UnsafeFormat, match="stopped"):
        ChatTemplate(source).render(["now"])


def test_D11_template_over_the_size_cap() -> None:
    with pytest.raises(UnsafeFormat, match="larger than"):
        check_template("a" * (MAX_TEMPLATE_BYTES + 1))
