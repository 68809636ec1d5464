"""Files, folders, stdin and stdout in the place of topics."""

from stream_detector.adapters.files.sink import FileSink, PipeClosedError
from stream_detector.adapters.files.source import FileSource

__all__ = ["FileSink", "FileSource", "PipeClosedError"]
