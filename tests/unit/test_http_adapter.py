"""The endpoints, asked over a real socket."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from stream_detector.adapters.http import HealthState, HttpError, HttpServer
from stream_detector.adapters.telemetry import Fanout
from stream_detector.config import Http
from stream_detector.ports import Odd, Progress
from stream_detector.records import (
    Kind,
    Partition,
    Reason,
    Record,
    Rejected,
)
from tests import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def exposition(accept: str) -> tuple[str, bytes]:
    if accept == "boom":
        raise RuntimeError("secret detail")
    return f"text/plain; for={accept}", b"metric 1\n" * 500


def ask(server: HttpServer, path: str, method: str = "GET", **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> HealthState:
    return HealthState(stuck_after=60, monotonic=clock)


@pytest.fixture
def server(health: HealthState) -> Iterator[HttpServer]:
    server = HttpServer(Http(port=0), health, exposition)
    yield server
    server.close()


def test_port_zero_takes_a_free_port_and_tells_it(server: HttpServer) -> None:
    assert server.port > 0
    assert server.url == f"http://127.0.0.1:{server.port}"


def test_metrics_are_rendered_for_the_format_that_was_asked_for(server: HttpServer) -> None:
    answer = ask(server, "/metrics?name=x", Accept="application/openmetrics-text")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; for=application/openmetrics-text"
    assert answer.body == b"metric 1\n" * 500


def test_large_answers_are_compressed_for_who_wants_that(server: HttpServer) -> None:
    answer = ask(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert len(answer.body) < 200
    assert gzip.decompress(answer.body) == b"metric 1\n" * 500


def test_a_loop_that_turns_is_alive_and_one_that_stopped_is_not(
    server: HttpServer, health: HealthState, clock: Clock
) -> None:
    clock.time += 59
    assert ask(server, "/livez").status == 200
    clock.time += 2
    answer = ask(server, "/livez")
    assert answer.status == 503
    body = json.loads(answer.body)
    assert body["alive"] is False
    assert "has not turned for 61 s" in body["reason"]
    health.beat(clock.time)
    assert ask(server, "/livez").status == 200
    clock.time += 61
    health.turn(Progress())
    assert ask(server, "/livez").status == 200


def test_not_ready_until_partitions_are_in_place_and_a_model_is_loaded(
    server: HttpServer, health: HealthState
) -> None:
    answer = ask(server, "/readyz")
    assert answer.status == 503
    assert "no model" in json.loads(answer.body)["reason"]
    assert "no partition" in json.loads(answer.body)["reason"]
    health.model("pumps", "v1")
    health.lag({})
    answer = ask(server, "/readyz")
    assert answer.status == 503
    assert json.loads(answer.body)["reason"] == "no partition has been assigned yet"
    health.lag({Partition("sensors", 3): 70_000})
    assert ask(server, "/readyz").status == 200


def test_lag_is_told_and_never_judged(server: HttpServer, health: HealthState) -> None:
    health.model("pumps", "v1")
    health.lag({Partition("sensors", 3): 10**9})
    answer = ask(server, "/readyz")
    assert answer.status == 200
    body = json.loads(answer.body)
    assert body["ready"] is True
    assert body["lag"] == {"sensors/3": 10**9}
    assert body["models"] == {"pumps": "v1"}


def test_misplaced_keys_are_told_and_never_judged(server: HttpServer, health: HealthState) -> None:
    health.model("pumps", "v1")
    health.lag({Partition("sensors", 3): 1})
    for _ in range(2):
        health.turn(Progress(odd=Odd({"sensors": 2}, {"sensors": 3}, {"sensors": 8})))
    answer = ask(server, "/readyz")
    assert answer.status == 200
    body = json.loads(answer.body)
    assert body["unkeyed_records"] == {"sensors": 4}
    assert body["misplaced_records"] == {"sensors": 6}
    assert body["repartitioned"] == {"sensors": 8}


def test_a_member_that_lost_its_partitions_stays_ready(
    server: HttpServer, health: HealthState
) -> None:
    health.model("pumps", "v1")
    health.lag({Partition("sensors", 3): 1})
    health.lag({})
    assert ask(server, "/readyz").status == 200


def test_the_page_shows_the_state_and_escapes_it(server: HttpServer, health: HealthState) -> None:
    event = fakes.event(series="a", kind=Kind.FLATLINE)
    rejected = Rejected(Reason.EMPTY, "", Record("t", 0, 0, 0, None, None))
    telemetry = Fanout(health)
    for _ in range(2):
        telemetry.turn(
            Progress(
                polled=1200,
                outcomes={"accepted": 1100},
                events=[event],
                rejected=[rejected],
                series={"mature": 42},
                event_time_lag=1.25,
            )
        )
    telemetry.model("<script>alert(1)</script>", 'v1"><img src=x>')
    telemetry.lag({Partition("sensors&co", 0): 5})
    telemetry.reload("refused")
    answer = ask(server, "/")
    page = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for text in ("sensors&amp;co/0", "2,400", "2,200", "flatline opened", "42", "1.2 s", "refused"):
        assert text in page, text
    assert "src=" not in page.replace("&lt;img src=x&gt;", "")
    assert "http://" not in page
    assert "https://" not in page


def test_the_page_works_before_anything_happened(server: HttpServer) -> None:
    page = ask(server, "/").body.decode()
    assert "none loaded yet" in page
    assert "no partition assigned" in page


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz", "/nothing"])
def test_every_answer_is_harmless_in_a_browser_and_never_cached(
    server: HttpServer, path: str
) -> None:
    headers = ask(server, path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/livez/../x", "//[", "/%2e%2e/etc"])
def test_unknown_paths_are_not_found(server: HttpServer, path: str) -> None:
    answer = ask(server, path)
    assert answer.status == 404
    assert b"/readyz" in answer.body


@pytest.mark.parametrize("path", ["/", "/metrics", "/livez", "/readyz"])
def test_head_gives_the_headers_alone(server: HttpServer, path: str) -> None:
    whole, head = ask(server, path), ask(server, path, "HEAD")
    assert head.status == whole.status
    assert head.body == b""
    assert int(head.headers["Content-Length"]) == len(whole.body)


def test_other_methods_are_refused(server: HttpServer) -> None:
    assert ask(server, "/", "POST").status == 501


def test_a_failing_page_is_an_error_without_details_and_the_server_lives_on(
    server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    answer = ask(server, "/metrics", Accept="boom")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret detail" in caplog.text
    assert ask(server, "/livez").status == 200


def test_a_client_that_hangs_up_or_says_nothing_harms_nobody(server: HttpServer) -> None:
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address) as silent, socket.create_connection(address) as rude:
        rude.sendall(b"\x16\x03\x01 GET nonsense\r\n\r\n")
        rude.close()
        assert ask(server, "/livez").status == 200
        silent.close()


def test_probes_are_answered_while_a_scrape_takes_its_time(health: HealthState) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(accept: str) -> tuple[str, bytes]:
        entered.set()
        leave.wait(10)
        return accept, b""

    server = HttpServer(Http(port=0), health, slow)
    try:
        scrape = threading.Thread(target=ask, args=(server, "/metrics"))
        scrape.start()
        assert entered.wait(5)
        assert ask(server, "/livez").status == 200
        leave.set()
        scrape.join(5)
        assert not scrape.is_alive()
    finally:
        server.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_taken_port_is_one_line_with_address_and_remedy(host: str, health: HealthState) -> None:
    try:
        first = HttpServer(Http(host=host, port=0), health, exposition)
    except HttpError:
        pytest.skip(f"this machine has no {host}")
    try:
        with pytest.raises(HttpError) as caught:
            HttpServer(Http(host=host, port=first.port), health, exposition)
    finally:
        first.close()
    text = str(caught.value)
    assert f"{host}:{first.port}" in text
    assert "http.port" in text
    assert "\n" not in text


def test_an_address_of_another_machine_is_one_line_too(health: HealthState) -> None:
    with pytest.raises(HttpError, match=r"192\.0\.2\.1:9108: .*http\.host"):
        HttpServer(Http(host="192.0.2.1"), health, exposition)


def test_after_close_nothing_listens_and_no_thread_is_left(health: HealthState) -> None:
    before = threading.active_count()
    server = HttpServer(Http(port=0), health, exposition)
    assert ask(server, "/livez").status == 200
    server.close()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/livez")
    assert threading.active_count() == before
    HttpServer(Http(port=server.port), health, exposition).close()
