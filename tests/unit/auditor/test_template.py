"""Chat templates: what real ones use works, and agrees with transformers' own rendering."""

from typing import Any

import pytest

from alignmerge.auditor.template import ChatTemplate, check_template
from alignmerge.errors import UnsafeFormat

LOOPY = """{%- set ns = namespace(n=0) -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
{{ bos_token }}<{{ message['role'] | upper }}>{{ message['content'] | trim | tojson }}
{%- generation %}{{ '' }}{% endgeneration -%}
{%- set ns.n = ns.n + 1 -%}
{%- endfor -%}
{{- ns.n }}{% if add_generation_prompt %}<ASSISTANT>{% endif %}{{ strftime_now('%Y') }}"""


def test_what_real_templates_use_renders() -> None:
    found = ChatTemplate(LOOPY, {"bos_token": "<s>"}).render(['say "é"'])
    assert found == ['<s><USER>"say \\"é\\""1<ASSISTANT>2024']


def test_the_same_text_as_transformers(tiny: tuple[Any, Any]) -> None:
    from alignmerge.auditor.engines.prompts import template_of

    prompts = ["hello", "two\nlines", "{{ 7 * 7 }}", " spaced "]
    expected = [
        tiny[1].apply_chat_template([{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True)
        for p in prompts
    ]
    assert template_of(tiny[1]).render(prompts) == expected


def test_the_digest_is_of_the_text_alone() -> None:
    source = "{{ messages[0].content }}"
    assert check_template(source) == ChatTemplate(source, {"bos_token": "x"}).digest
    assert check_template(source) != check_template(source + " ")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ bos_token }}", "leaves out"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("{{ nothing.there }}", "undefined"),
    ],
)
def test_a_template_that_cannot_ask_is_refused(source: str, reason: str) -> None:
    with pytest.raises(UnsafeFormat, match=reason):
        check_template(source)


def test_lone_surrogates_in_a_prompt_do_no_harm() -> None:
    assert ChatTemplate("{{ messages[0].content }}").render(["a\ud800b"]) == ["a\ufffd\ufffd\ufffdb"]
