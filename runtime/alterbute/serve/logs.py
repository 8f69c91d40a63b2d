"""One JSON line per event, with the request's id; never a prompt, a path, a key or a picture."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Final

ACCESS: Final = logging.getLogger("alterbute.serve.access")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """Formats a record as JSON: message, level, time and the fields of `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            key: value
            for key, value in vars(record).items()
            if key not in _STANDARD and key not in ("color_message", "taskName")
        }
        if record.exc_info and record.exc_info[1] is not None:
            # The place of the failure without the exception's message, which may hold a client's words.
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = type(record.exc_info[1]).__name__
            line["trace"] = [f"{frame.name}:{frame.lineno}" for frame in frames[-12:]]
        return json.dumps(line, default=str)


def configure_logs(level: str) -> None:
    """Send log records to stderr as JSON; called by the command only, the library configures no logging."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("PIL").setLevel(logging.WARNING)
