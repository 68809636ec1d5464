"""What the service's log looks like."""

from __future__ import annotations

import logging

import pytest

from stream_detector.commands import wiring


@pytest.mark.parametrize(("logger", "lines"), [("kafka.net.transport", 1), ("stream_detector", 4)])
def test_what_the_kafka_client_rides_out_is_one_line_and_our_own_faults_are_whole(
    logger: str, lines: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)
    wiring.log_to_stderr()
    try:
        raise ConnectionError("gone")  # noqa: TRY301  # a traceback is what is looked at
    except ConnectionError:
        logging.getLogger(logger).exception("reading")
    written = capsys.readouterr().err
    assert written.count("\n") >= lines
    assert ("Traceback" in written) is (lines > 1)
    assert "reading" in written.splitlines()[0]
    assert "gone" in written
