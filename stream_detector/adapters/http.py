"""The service's own web server: /metrics, /livez, /readyz and a page for people at /.

Standard library only. It reads a HealthState and a function that renders the metrics; it changes
nothing, so it needs no login, and every answer is made to be harmless in a browser.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import logging
import socket
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stream_detector.config import Http
    from stream_detector.ports import Progress
    from stream_detector.records import Partition

_log = logging.getLogger(__name__)

STUCK_AFTER: Final = 300.0
"""Seconds without a turn after which the loop counts as stuck: by then the brokers have given the
partitions away too (`max_poll_interval`), and delivery has long timed out."""


class HttpError(Exception):
    """The server cannot start; one line that names host, port and the remedy."""


class HealthState:
    """What the loop last told, for the endpoints. Also a ports.Telemetry.

    The loop's thread writes and the server's threads read; whole values are replaced, never
    changed in place, so no lock is needed, but for reloads, which two threads tell.
    """

    def __init__(
        self,
        *,
        stuck_after: float = STUCK_AFTER,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stuck_after` in seconds; a start that takes longer counts as stuck too."""
        self._stuck_after = stuck_after
        self._monotonic = monotonic
        self._beat = monotonic()
        self._reloading = threading.Lock()
        self.assigned = False  # there are partitions to read
        self.restoring = 0  # partitions whose state is not in place yet
        self.models: Mapping[str, str] = {}  # group -> version
        self.records = 0
        self.samples: Mapping[str, int] = {}  # outcome -> since the start
        self.dead_letters = 0
        self.events: Mapping[str, int] = {}  # "anomaly opened" -> since the start
        self.series: Mapping[str, int] = {}  # state -> held
        self.partition_lag: Mapping[str, int] = {}  # "topic/partition" -> records
        self.event_time_lag: float | None = None  # s, at the last turn that read a sample
        self.reloads: Mapping[str, int] = {}  # outcome -> since the start
        self.unkeyed: Mapping[str, int] = {}  # topic -> records since the start
        self.misplaced: Mapping[str, int] = {}  # topic -> records since the start
        self.repartitioned: Mapping[str, int] = {}  # topic -> partitions that it has since then

    def beat(self, now: float | None = None) -> None:
        """The loop is alive at `now`, seconds of the monotonic clock."""
        self._beat = self._monotonic() if now is None else now

    def turn(self, progress: Progress) -> None:
        self.beat()
        self.records += progress.polled
        self.restoring = progress.restoring
        self.dead_letters += len(progress.rejected)
        if progress.outcomes:
            self.samples = Counter(self.samples) + Counter(progress.outcomes)
        if progress.events:
            names = (f"{event.kind.value} {event.status.value}" for event in progress.events)
            self.events = Counter(self.events) + Counter(names)
        if progress.odd.unkeyed:
            self.unkeyed = Counter(self.unkeyed) + Counter(progress.odd.unkeyed)
        if progress.odd.misplaced:
            self.misplaced = Counter(self.misplaced) + Counter(progress.odd.misplaced)
        if progress.odd.repartitioned:
            self.repartitioned = {**self.repartitioned, **progress.odd.repartitioned}
        if progress.series:
            self.series = dict(progress.series)
        if progress.event_time_lag is not None:
            self.event_time_lag = progress.event_time_lag

    def lag(self, lag: Mapping[Partition, int]) -> None:
        self.partition_lag = {f"{part.topic}/{part.number}": count for part, count in lag.items()}
        self.assigned = self.assigned or bool(lag)

    def model(self, group: str, version: str) -> None:
        self.models = {**self.models, group: version}

    def reload(self, outcome: str) -> None:
        with self._reloading:
            self.reloads = Counter(self.reloads) + Counter([outcome])

    def alive(self) -> tuple[bool, str]:
        silent = self._monotonic() - self._beat
        if silent > self._stuck_after:
            return False, (
                f"the loop has not turned for {silent:.0f} s, more than the {self._stuck_after:g} s"
                " allowed: it is stuck and should be restarted"
            )
        return True, f"the loop turned {max(silent, 0.0):.1f} s ago"

    def ready(self) -> tuple[bool, str]:
        missing = []
        if not self.models:
            missing.append("no model is loaded yet")
        if not self.assigned:
            missing.append("no partition has been assigned yet")
        if self.restoring:
            missing.append(f"the state of {self.restoring} partitions is being restored")
        return not missing, "; ".join(missing) or "a model serves the assigned partitions"

    def as_dict(self) -> dict[str, Any]:
        return {
            "models": dict(self.models),
            "restoring": self.restoring,
            "lag": dict(self.partition_lag),
            "event_time_lag_seconds": self.event_time_lag,
            "series": dict(self.series),
            "records": self.records,
            "samples": dict(self.samples),
            "dead_letters": self.dead_letters,
            "events": dict(self.events),
            "reloads": dict(self.reloads),
            "unkeyed_records": dict(self.unkeyed),
            "misplaced_records": dict(self.misplaced),
            "repartitioned": dict(self.repartitioned),
        }


class Reply(NamedTuple):
    status: HTTPStatus
    content_type: str
    body: bytes


class HttpServer:
    """Serves from its own threads, from construction until close()."""

    def __init__(
        self, http: Http, health: HealthState, exposition: Callable[[str], tuple[str, bytes]]
    ) -> None:
        """`exposition`: Accept header -> content type and body of /metrics.

        Raises HttpError where the address cannot be had.
        """
        self._server = _listen(http.host, http.port)
        self._server.route = _Routes(health, exposition).reply
        self.host = http.host
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104  # compared, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Routes:
    """Path -> reply; pure but for the health it reads."""

    def __init__(self, health: HealthState, exposition: Callable[[str], tuple[str, bytes]]) -> None:
        self._health = health
        self._exposition = exposition

    def reply(self, path: str, accept: str) -> Reply:
        match path:
            case "/metrics":
                return Reply(HTTPStatus.OK, *self._exposition(accept))
            case "/livez":
                good, reason = self._health.alive()
                return _json(good, {"alive": good, "reason": reason})
            case "/readyz":
                good, reason = self._health.ready()
                return _json(good, {"ready": good, "reason": reason, **self._health.as_dict()})
            case "/":
                page = _page(self._health).encode()
                return Reply(HTTPStatus.OK, "text/html; charset=utf-8", page)
            case _:
                text = b"Not found. Here are: / /metrics /livez /readyz\n"
                return Reply(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", text)


def _json(good: bool, body: Mapping[str, Any]) -> Reply:  # noqa: FBT001  # private, read once
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Reply(status, "application/json", json.dumps(body).encode() + b"\n")


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # a slow client must not hold up the end of the service
    request_queue_size = 64
    allow_reuse_port = False  # a second detector on the same port must be told, not share it
    route: Callable[[str, str], Reply]

    def server_bind(self) -> None:
        """Without HTTPServer's look-up of the host's full name, which can wait for a resolver."""
        TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # the base's
        """Only what the connection itself does ends here: a client went away."""
        _log.debug("client %s went away", client_address, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "stream-detector"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 10  # s; a client that sends its request slowly is cut off

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        accept = self.headers.get("Accept", "")
        try:
            reply = self.server.route(self.path.partition("?")[0], accept)
        except Exception as error:  # noqa: BLE001  # one bad request must not end the server
            _log.exception("cannot answer %s", self.path)
            text = f"This page failed: {type(error).__name__}; see the log\n".encode()
            reply = Reply(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", text)
        status, content_type, body = reply
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        if len(body) > 1024 and "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Vary", "Accept, Accept-Encoding")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Connection", "close")  # no idle connection holds a thread
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Scrapes come every few seconds: not worth a line."""


def _listen(host: str, port: int) -> _Server:
    try:
        infos = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = infos[0]
        kind = _Server6 if family == socket.AF_INET6 else _Server
        return kind((str(address[0]), port), _Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise HttpError(
            f"cannot listen on {host}:{port}: {reason}; set `http.host` and `http.port` to an "
            "address of this machine and a free port (0 takes any)"
        ) from error


_STYLE: Final = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin-bottom:.2rem}h2{font-size:1rem;margin:1.6rem 0 .3rem}
table{border-collapse:collapse;width:100%}
th{font-weight:normal;text-align:left;overflow-wrap:anywhere}
td{text-align:right;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
th,td{border-top:1px solid #8884;padding:.25rem .5rem}
.good::before{content:"\\25CF";color:#2e9e5b;margin-right:.5rem}
.bad::before{content:"\\25B2";color:#d0402b;margin-right:.5rem}
p{margin:.3rem 0}.quiet{opacity:.7}
"""
_POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src "
    f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
"""Nothing but the one style sheet inside the page itself, so nothing injected could run or load."""


def _page(health: HealthState) -> str:
    state = health.as_dict()
    lag = state["event_time_lag_seconds"]
    totals = {
        "records read": health.records,
        "dead letters": health.dead_letters,
        "newest sample was behind the clock by": "no sample yet" if lag is None else f"{lag:.1f} s",
    }
    body = "".join(
        (
            _light("Alive", *health.alive()),
            _light("Ready", *health.ready()),
            _table("Models (group, version)", state["models"], "none loaded yet"),
            _table("Series held", state["series"], "none yet"),
            _table("Since the start", totals, ""),
            _table("Samples", state["samples"], "none yet"),
            _table("Events", state["events"], "none yet"),
            _table("Model reloads", state["reloads"], "none yet"),
            _table("Records without a key (topic)", state["unkeyed_records"], "none"),
            _table("Records in a wrong partition (topic)", state["misplaced_records"], "none"),
            _table("Lag (topic/partition, records)", state["lag"], "no partition assigned"),
        )
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>stream-detector</title>
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="refresh" content="5"><style>{_STYLE}</style></head><body>
<h1>stream-detector</h1>
<p>Scores every new window of every series with an autoencoder and publishes anomalies.</p>
<p><a href="/metrics">/metrics</a> for Prometheus, <a href="/livez">/livez</a> and
<a href="/readyz">/readyz</a> for probes. This page renews itself every 5 s.</p>
{body}</body></html>
"""


def _light(name: str, good: bool, reason: str) -> str:  # noqa: FBT001  # private, one caller
    kind, word = ("good", "yes") if good else ("bad", "no")
    return f'<p class="{kind}"><b>{name}: {word}</b>, {html.escape(reason)}</p>'


def _table(title: str, rows: Mapping[str, object], empty: str) -> str:
    if not rows:
        return f'<h2>{html.escape(title)}</h2><p class="quiet">{html.escape(empty)}</p>'
    cells = "".join(
        f"<tr><th scope=row>{html.escape(str(name))}</th>"
        f"<td>{html.escape(f'{value:,}' if isinstance(value, int) else str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{cells}</table>"
