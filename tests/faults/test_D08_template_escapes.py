"""D08: templates that reach for Python's insides are refused, and nothing of theirs runs."""

from pathlib import Path

import pytest

from alignmerge.auditor.template import check_template
from alignmerge.errors import UnsafeFormat

TAIL = "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
        "{{ lipsum.__globals__['os'].popen('touch CANARY').read() }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__self__.__class__.__base__ }}",
        "{{ (messages|attr('__class__')) }}",
        "{{ self._TemplateReference__context.eval_ctx.environment.from_string('x') }}",
        "{% set x = namespace() %}{{ x.__init__.__globals__['__builtins__']['open']('CANARY', 'w') }}",
        "{{ '%s'|format(''.__class__) }}{{ ''['__class__'] }}",
        "{% include 'CANARY' %}",
        "{{ messages.append({'role': 'user', 'content': 'x'}) }}",
        "{{ messages[0].update({'content': 'x'}) }}",
    ],
)
def test_D08_attribute_escape(attack: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    with pytest.raises(UnsafeFormat) as raised:
        check_template(attack.replace("CANARY", str(canary)) + TAIL)
    assert raised.value.exit_code == 5
    assert not canary.exists()


def test_D10_a_template_that_changes_its_messages_is_refused() -> None:
    with pytest.raises(UnsafeFormat):
        check_template("{% set _ = messages[0].__setitem__('content', 'x') %}" + TAIL)
