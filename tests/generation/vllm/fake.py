"""A stand-in for a vLLM server: the same endpoints, and faults on demand.

    python -m tests.generation.vllm.fake [--port N] [--no_lora]

is a process that prints its port and answers by the seed alone until it is killed. With an `Engine`
(in a thread, see `servers`) it draws from a tiny model and from the adapters that are loaded, one
token after the other, as transformers and peft compute them. `POST /fake/faults` with a list says
what the next completions meet: `500`, `404`, `abort`, `hang`, `die`, `raw` (log-probabilities from
before the temperature), or `ok`.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CONTEXT_LENGTH = 512


class Canned:
    """Answers without a model: two tokens that the seed determines."""

    def load(self, name: str, path: str) -> None:
        assert (Path(path) / "adapter_model.safetensors").is_file(), path

    def unload(self, name: str) -> None:
        pass

    def complete(self, model: str, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        first = 3 + body["seed"] % 89
        return [first, body["stop_token_ids"][0]], [-1.0, -2.0]


class Engine:
    """A tiny model and its adapters."""

    def __init__(self, directory: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.base = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.adapted: Any = None

    def load(self, name: str, path: str) -> None:
        if self.adapted is None:
            from peft import PeftModel

            self.adapted = PeftModel.from_pretrained(self.base, path, adapter_name=name)
        else:
            self.adapted.load_adapter(path, adapter_name=name)

    def unload(self, name: str) -> None:
        others = [other for other in self.adapted.peft_config if other != name]
        if others:  # peft warns where the active adapter is deleted
            self.adapted.set_adapter(others[0])
        self.adapted.delete_adapter(name)

    def complete(self, model: str, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        if self.adapted is None or model == "base":
            if self.adapted is None:
                return self._draw(self.base, body)
            with self.adapted.disable_adapter():
                return self._draw(self.adapted, body)
        self.adapted.set_adapter(model)
        return self._draw(self.adapted, body)

    def _draw(self, model: Any, body: dict[str, Any]) -> tuple[list[int], list[float]]:
        torch = self.torch
        generator = torch.Generator().manual_seed(body["seed"])
        ids, logprobs = list(body["prompt"]), []
        with torch.no_grad():
            for _ in range(body["max_tokens"]):
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
                scaled = self._filtered(logits / body["temperature"], body).log_softmax(-1)
                ids.append(int(torch.multinomial(scaled.exp(), 1, generator=generator)))
                said = logits.log_softmax(-1) if body["raw"] else scaled
                logprobs.append(float(said[ids[-1]]))
                if ids[-1] in body["stop_token_ids"] or self._has_stopped(ids, body):
                    break
        return ids[len(body["prompt"]) :], logprobs

    def _filtered(self, logits: Any, body: dict[str, Any]) -> Any:
        """By transformers' filters, in vLLM's order; cory must come to the same set by its own."""
        from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        filters: list[Any] = [MinPLogitsWarper(body["min_p"])] if body["min_p"] else []
        filters += [TopKLogitsWarper(body["top_k"])] if body["top_k"] else []
        filters += [TopPLogitsWarper(body["top_p"])] if body["top_p"] < 1 else []
        rows = logits[None]
        for one in filters:
            rows = one(None, rows)
        return rows[0]

    def _has_stopped(self, ids: list[int], body: dict[str, Any]) -> bool:
        text = self.tokenizer.decode(ids[len(body["prompt"]) :], skip_special_tokens=True)
        return any(stop in text for stop in body.get("stop", ()))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_GET(self) -> None:
        if self.server.is_dead:
            self.close_connection = True
        elif self.path == "/v1/models":
            cards = [{"id": "base", "parent": None, "max_model_len": CONTEXT_LENGTH}]
            cards += [{"id": name, "parent": "base"} for name in self.server.adapters]
            self._answer(200, {"data": cards})
        else:
            self._answer(200 if self.path == "/health" else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            status, answer = self._post(body)
        if status == 0:
            time.sleep(3600)
        if self.server.is_dead:
            self.close_connection = True
        else:
            self._answer(status, answer)

    def _post(self, body: Any) -> tuple[int, dict[str, Any]]:
        server = self.server
        if self.path == "/fake/faults":
            server.faults += body
            return 200, {}
        if self.path == "/v1/completions":
            return self._complete(body)
        name = body["lora_name"]
        if self.path == "/v1/load_lora_adapter" and server.has_lora:
            if name in server.adapters:
                return 400, _error(f"The lora adapter '{name}' has already been loaded.")
            server.engine.load(name, body["lora_path"])
            server.adapters.append(name)
            return 200, {}
        if self.path == "/v1/unload_lora_adapter" and name in server.adapters:
            server.engine.unload(name)
            server.adapters.remove(name)
            return 200, {}
        return 404, {"detail": "Not Found"}

    def _complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        server, model = self.server, body["model"]
        fault = server.faults.pop(0) if server.faults else "ok"
        if fault == "die":
            server.die()
        if fault == "hang":
            return 0, {}
        if fault == "500":
            return 500, _error("EngineCore encountered an issue.")
        if fault == "404" or model not in ("base", *server.adapters):
            return 404, _error(f"The model `{model}` does not exist.")
        if len(body["prompt"]) + body["max_tokens"] > CONTEXT_LENGTH:
            return 400, _error(f"This model's maximum context length is {CONTEXT_LENGTH} tokens.")
        token_ids, logprobs = server.engine.complete(model, {**body, "raw": fault == "raw"})
        choice = {
            "text": "never to be read",
            "token_ids": token_ids,
            "logprobs": {"token_logprobs": logprobs},
            "finish_reason": "abort" if fault == "abort" else "stop",
        }
        return 200, {"choices": [choice]}

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, engine: Canned | Engine, has_lora: bool) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.engine = engine
        self.has_lora = has_lora
        self.lock = threading.Lock()
        self.adapters: list[str] = []
        self.faults: list[str] = []
        self.is_dead = False

    def die(self) -> None:
        """At once: a process ends, a thread says nothing more to anybody."""
        if __name__ == "__main__":
            os._exit(1)
        self.is_dead = True
        threading.Thread(target=self.shutdown).start()
        self.server_close()


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no_lora", action="store_true")
    options = parser.parse_args()
    server = FakeServer(options.port, Canned(), not options.no_lora)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
