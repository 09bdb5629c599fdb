"""An endpoint that speaks chat completions on a local port, and misbehaves as it is told."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

WAIT_S = 20.0
"""How long the server waits for what a test promised."""


@dataclass(frozen=True)
class Reply:
    """One answer of the endpoint."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    breaks_off: bool = False
    before: Callable[[], object] | None = None
    """Called before the answer goes out, in the server's thread."""


class ChatServer:
    """Gives the replies in `script` one after the other, then, or where it has none, those in `by_class`."""

    def __init__(self) -> None:
        self.script: list[Reply] = []
        self.by_class: dict[str, list[Reply]] = {}
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @staticmethod
    def said(text: str | None, finish_reason: str = "stop") -> Reply:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        return Reply(json.dumps({"id": "1", "object": "chat.completion", "choices": [choice]}))

    @staticmethod
    def fails(status: int, body: str = '{"error": {"message": "no"}}', **headers: str) -> Reply:
        return Reply(body, status=status, headers={key.replace("_", "-"): value for key, value in headers.items()})

    @property
    def classes_asked(self) -> list[str]:
        return [class_in(question) for question in self.asked]

    def next_reply(self, path: str, headers: dict[str, str], question: dict[str, Any]) -> Reply:
        with self._lock:
            self.paths.append(path)
            self.headers.append(headers)
            self.asked.append(question)
            replies = self.script or self.by_class[class_in(question)]
            return replies.pop(0) if len(replies) > 1 or replies is self.script else replies[0]


def class_in(question: dict[str, Any]) -> str:
    """The class that the last question of a prompt is about."""
    return re.findall(r"distinguishing a (.*) in a photo", question["messages"][0]["content"])[-1]


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    """A ChatServer with the attribute `url`."""
    chat = ChatServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = chat.next_reply(self.path, dict(self.headers), question)
            if reply.before:
                reply.before()
            body = reply.body.encode()
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(body) + (10 if reply.breaks_off else 0)))
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = reply.breaks_off

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that has gone is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        chat.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield chat
        chat.closing.set()
        server.shutdown()
        thread.join()
