"""Chat templates rendered where they can do no harm; this file is also run as a child process of its own.

A chat template is a program that came with a checkpoint. It runs in Jinja's immutable sandbox, and only inside a child
process whose memory and time the kernel limits: the sandbox stops attribute tricks, the limits
stop loops and giant strings. The child imports the standard library and Jinja alone, so it starts in a tenth of a
second and none of our own code is in its reach.

Notable decisions:
- Every prompt is rendered in the child, not just a trial one: a template may behave for the trial and not afterwards.
- The limit is on processor time: a template cannot wait for anything, and a sound one must not fail because the machine
  is busy. A generous wall clock stands behind it.
- The clock that templates see stands still, so a prompt is the same on every day.

Protocol: one JSON object on standard input (template, prompts, tokens and the limits), one on standard output
({"texts": [...]} or {"error": "..."}). A kernel limit that strikes kills the child instead.
"""

import json
import signal
import sys
from datetime import UTC, datetime
from typing import Any

FROZEN_TIME = datetime(2024, 7, 26, tzinfo=UTC)


def environment() -> Any:
    """A sandboxed Jinja environment that understands what transformers' chat templates use."""
    import jinja2
    import jinja2.ext
    import jinja2.nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(jinja2.ext.Extension):
        """`{% generation %}` marks the assistant's own text for training; for rendering it is its content."""

        tags = {"generation"}  # noqa: RUF012  the base class declares it an instance variable

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    class Sandbox(ImmutableSandboxedEnvironment):
        """Jinja's own sandbox renders a forbidden attribute as nothing; here reaching for one is the end."""

        def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
            raise jinja2.exceptions.SecurityError(f"attribute {attribute!r} of a {type(obj).__name__}")

    def raise_exception(message: str) -> str:
        raise jinja2.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
        known = {key: options[key] for key in ("separators", "sort_keys") if key in options}
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **known)

    env = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        extensions=[jinja2.ext.loopcontrols, Generation],
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = FROZEN_TIME.strftime
    return env


def render(job: dict[str, Any]) -> dict[str, Any]:
    """Rendered texts of `job`, or the reason there are none."""
    import jinja2

    try:
        template = environment().from_string(job["template"])
        texts, size = [], 0
        for prompt in job["prompts"]:
            messages = [{"role": "user", "content": prompt}]
            text = template.render(messages=messages, add_generation_prompt=True, **job["tokens"])
            if messages != [{"role": "user", "content": prompt}]:
                return {"error": "it changes the messages it is given"}
            size += len(text) - len(prompt)
            if size > job["output_bytes"]:
                return {"error": f"it writes more than {job['output_bytes']} characters"}
            texts.append(text)
        return {"texts": texts}
    except jinja2.exceptions.SecurityError as error:
        return {"error": f"it reaches for what the sandbox forbids: {error}"}
    except MemoryError:
        return {"error": "it needs more memory than a chat template may have"}
    except RecursionError:
        return {"error": "it calls itself without end"}
    except Exception as error:  # a template is foreign code: whatever it raises is a reason, not a crash
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def main() -> int:
    """Limit this process, render the job on standard input, write the result to standard output."""
    import resource

    import jinja2.sandbox  # noqa: F401  imported before the clock starts

    job = json.loads(sys.stdin.buffer.read())
    resource.setrlimit(resource.RLIMIT_AS, (job["memory_bytes"], job["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    for timer, number, key in (
        (signal.ITIMER_PROF, signal.SIGPROF, "seconds"),
        (signal.ITIMER_REAL, signal.SIGALRM, "wall_seconds"),
    ):
        signal.signal(number, signal.SIG_DFL)
        signal.setitimer(timer, job[key])
    result = render(job)
    sys.stdout.buffer.write(json.dumps(result).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
