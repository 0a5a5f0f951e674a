"""A small OpenAI-compatible service on this machine, healthy or ill in every way that the client must survive."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Illness = Callable[["Handler", str], bool]
"""Given the handler and the prompt: whether it has answered, or left unanswered, in its own way."""


class Service:
    """What the service was asked, and how it is."""

    def __init__(self) -> None:
        self.illness: Illness = lambda handler, prompt: False
        self.answered: list[str] = []
        """Prompts that got a healthy answer."""
        self.requests = 0
        self.keys: set[str | None] = set()
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self.url = ""

    def enter(self, key: str | None) -> None:
        with self._lock:
            self.requests += 1
            self.keys.add(key)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)

    def leave(self) -> None:
        with self._lock:
            self._now -= 1


class Handler(BaseHTTPRequestHandler):
    """Answers with the three most frequent nouns-to-be of the prompt, as a model would; sentences from its keywords."""

    service: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.service.enter(self.headers.get("Authorization"))
        try:
            prompt = body["messages"][0]["content"]
            if self.path != "/v1/chat/completions":
                self.say(404, b"{}")
            elif not self.service.illness(self, prompt):
                self.service.answered.append(prompt)
                self.chat(answer(prompt))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client had enough
        finally:
            self.service.leave()

    def chat(self, content: Any) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        message = {"role": "assistant", "content": content}
        self.say(200, json.dumps({"choices": [{"message": message}], "usage": usage}).encode())

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests keep quiet."""


def answer(prompt: str) -> str:
    """What a healthy model says."""
    if prompt.startswith("Keywords:"):
        words = prompt.splitlines()[0].removeprefix("Keywords:").strip()
        return json.dumps({"sentences": [f"nothing but {words}.", f"{words}."]})
    words = re.findall(r"[a-z]+", " ".join(line for line in prompt.splitlines() if line.startswith("- ")))
    often = sorted(set(words) - {"a", "and"}, key=lambda word: (-words.count(word), word))
    return f"Sure! {json.dumps({'keywords': often[:3]})} Anything else?"


@contextmanager
def serving() -> Iterator[Service]:
    """A service on a free port."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"service": service}))
    server.daemon_threads = True
    service.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# ------------------------------------------------------------------------------------------ illnesses


def slow(seconds: float) -> Illness:
    def illness(handler: Handler, prompt: str) -> bool:
        time.sleep(seconds)
        return True

    return illness


def together(count: int) -> Illness:
    """Healthy, but requests are answered so many together: nobody gets an answer before as many came."""
    barrier = threading.Barrier(count)

    def illness(handler: Handler, prompt: str) -> bool:
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(30)
        return False

    return illness


def dripping(seconds: float) -> Illness:
    """Sends headers at once and then a byte now and then."""

    def illness(handler: Handler, prompt: str) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(int(seconds / 0.05)):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)
        return True

    return illness


def status(code: int, **headers: str) -> Illness:
    def illness(handler: Handler, prompt: str) -> bool:
        handler.say(code, b'{"error": "no"}', **headers)
        return True

    return illness


def body(data: bytes) -> Illness:
    def illness(handler: Handler, prompt: str) -> bool:
        handler.say(200, data)
        return True

    return illness


def content(value: Any) -> Illness:
    def illness(handler: Handler, prompt: str) -> bool:
        handler.chat(value)
        return True

    return illness


def times(count: int, illness: Illness) -> Illness:
    """Ill for so many requests, then healthy."""
    left = [count]

    def some(handler: Handler, prompt: str) -> bool:
        left[0] -= 1
        return left[0] >= 0 and illness(handler, prompt)

    return some


def where(word: str, illness: Illness) -> Illness:
    """Ill where a prompt has a word in it."""
    return lambda handler, prompt: word in prompt and illness(handler, prompt)
