"""The newest metrics where Prometheus fetches them: http://HOST:PORT/metrics."""

import math
import re
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from distdqn.record.machines import latest

CONTENT = "text/plain; version=0.0.4; charset=utf-8"
_COUNTERS = {"env_frames", "env_steps", "learner_updates", "actor/episodes"}
_COUNTERS |= {f"replay/{name}" for name in ("emitted", "stored", "dropped", "stale_priorities")}
_IDLE_SECONDS = 10.0
"""A client that says nothing for so long is left."""


def exposed(name: str) -> tuple[str, str, str]:
    """What a metric is there: its name, its machine or nothing, and its type. `learner/loss` is
    `distdqn_learner_loss`, `node/HOST/cpu` is `distdqn_node_cpu` of a host, what only grows ends in `_total`."""
    host, kind = "", "gauge"
    if name.startswith("node/"):
        host, _, figure = name.removeprefix("node/").rpartition("/")
        name = f"node/{figure}"
    if name in _COUNTERS or name.startswith("faults/"):
        name, kind = f"{name}_total", "counter"
    return "distdqn_" + re.sub(r"\W", "_", name, flags=re.ASCII), host, kind


def page(metrics: Mapping[str, float], labels: Mapping[str, str]) -> str:
    """`metrics` in Prometheus' text format, each with the `labels`."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name, value in metrics.items():
        metric, host, kind = exposed(name)
        of = {**labels, **({"host": host} if host else {})}
        text = ",".join(f'{label}="{_escaped(said)}"' for label, said in of.items())
        found.setdefault(metric, (kind, []))[1].append(f"{metric}{{{text}}} {_number(value)}")
    lines = [line for metric, (kind, rows) in found.items() for line in (f"# TYPE {metric} {kind}", *rows)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"


class Prometheus:
    """Answers from a thread until it is closed; `where` is its address. Port 0 takes any that is free.

    Raises:
        OSError: the host or the port cannot be had.
    """

    def __init__(self, host: str, port: int, labels: Mapping[str, str]) -> None:
        self._labels, self._last = labels, dict[str, float]()
        self._server = _Server(host, port, self)
        shown, port = self._server.server_address[:2]
        self.where = f"http://{f'[{shown!s}]' if ':' in str(shown) else shown!s}:{port}/metrics"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="prometheus", daemon=True).start()

    def write(self, metrics: Mapping[str, float]) -> None:
        """Takes in one record; metrics that it lacks keep their value, but for those of machines that are gone."""
        self._last = latest(self._last, metrics)  # a new one each time: it is read by other threads

    def page(self) -> str:
        """What is answered now."""
        return page(self._last, self._labels)

    def close(self) -> None:
        """Gives the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, source: Prometheus | None = None) -> None:
        self.source = source
        try:
            self.address_family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except UnicodeError as error:
            raise OSError(None, "no host's name") from error
        super().__init__((str(address[0]), port), _Handler)

    def server_bind(self) -> None:
        """Without asking for the host's full name, which takes long where there is no name server."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, *_: object) -> None:
        """Whoever goes away while he is answered is no matter."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _IDLE_SECONDS

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "it is /metrics")
            return
        assert self.server.source is not None
        body = self.server.source.page().encode()
        self.send_response(200)
        self.send_header("Content-Type", CONTENT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Says neither of what this is made nor how old it is."""
        return "distdqn"

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def refuse_taken(host: str, port: int) -> None:
    """Raises `OSError` where that port of that host cannot be listened on now."""
    _Server(host, port).server_close()
