"""A web server on this machine."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any


class Web:
    """Serves a folder while it is entered, and notes what it is asked for.

    Args:
        folder: what it serves.
        silent: headers that it leaves out.
        tag: an ETag that every file has.
    """

    def __init__(self, folder: Path, silent: tuple[str, ...] = (), tag: str = "") -> None:
        self.asked: list[str] = []
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                web.asked.append(f"{self.command} {self.path}")

            def send_header(self, keyword: str, value: str) -> None:
                if keyword not in silent:
                    super().send_header(keyword, value)

            def end_headers(self) -> None:
                if tag:
                    self.send_header("ETag", tag)
                super().end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
