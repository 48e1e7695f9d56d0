"""As much of a W&B server as its client needs for a run: it takes what is sent, and can go away or fall silent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ENTITY = {"id": "E", "name": "me"}
_BUCKET = {
    "id": "B",
    "displayName": "run",
    "config": "{}",
    "project": {"id": "P", "name": "distdqn", "entity": _ENTITY},
}
_ANSWERS = {
    "viewer": {"id": "V", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
    "serverInfo": {"cliVersionInfo": {"max_cli_version": "1.0.0"}, "features": []},
    "createRunFiles": {"runID": "run", "uploadHeaders": [], "files": []},
    "model": None,
}


class Server(ThreadingHTTPServer):
    """Listens on this machine.

    Attributes:
        history: the records that have come, in order. state: "well", "gone" or "silent".
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.history: list[dict[str, Any]] = []
        self.state, self._never = "well", threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        """What sends the client here."""
        return {"WANDB_BASE_URL": f"http://127.0.0.1:{self.server_address[1]}", "WANDB_API_KEY": "x" * 40}

    def goes_on(self) -> bool:
        """Whether a request is to be answered; one to a silent server waits for ever."""
        if self.state == "silent":
            self._never.wait()
        return self.state == "well"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.state != "gone"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if not self.path.endswith("/graphql"):
            for chunk in body.get("files", {}).get("wandb-history.jsonl", {}).get("content", []):
                self.server.history.append(json.loads(chunk))
            return self._answer({})
        name = (body.get("variables") or {}).get("name") or "run"
        return self._answer(
            {"data": {**_ANSWERS, "upsertBucket": {"bucket": {**_BUCKET, "name": name}, "inserted": True}}}
        )

    def _body(self) -> dict[str, Any]:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            found = json.loads(content)
        except ValueError:  # measurements of W&B's own
            return {}
        return found if isinstance(found, dict) else {}

    def _answer(self, content: dict[str, Any]) -> None:
        if not self.server.goes_on():
            self.close_connection = True
            return
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def server() -> Iterator[Server]:
    """One that runs while this is entered."""
    with Server() as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found
        found.shutdown()
