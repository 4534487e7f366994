"""A server for the live page: on this machine only, and it writes nothing."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from hypergradient.study.html import PAGE_STYLE, PLOTLY
from hypergradient.study.live.snapshot import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hypergradient.study.declare.study import Study
    from hypergradient.study.run.store import Store

ADDRESS = "127.0.0.1"

_TEMPLATES = Path(__file__).parent / "templates"

FILES = {
    "/": (_TEMPLATES / "live.html", "text/html"),
    "/live.js": (_TEMPLATES / "live.js", "text/javascript"),
    "/live.css": (_TEMPLATES / "live.css", "text/css"),
    "/report.css": (PAGE_STYLE, "text/css"),
    "/plotly.js": (PLOTLY, "text/javascript"),
}
"""All that is served, besides the data at /data: no other file can be asked for."""

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src data:; "
    "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@contextmanager
def served(study: Study, store: Store, port: int = 0) -> Iterator[str]:
    """Serve a study's live page while the block runs, and give its address.

    Args:
        study: The study.
        store: Its results, which are only read.
        port: The port; 0 is any that is free.

    Raises:
        OSError: The port is taken.
    """
    watched, lock = Watched(study, store), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # A name that a page elsewhere has made point to this machine is not ours.
            if (self.headers.get("Host") or "") not in names:
                self.send_error(HTTPStatus.FORBIDDEN)
            elif self.path == "/data":
                with lock:
                    content = json.dumps(watched.snapshot(), separators=(",", ":"))
                self.answer(content.encode(), "application/json")
            elif self.path in FILES:
                path, kind = FILES[self.path]
                self.answer(path.read_bytes(), kind)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def answer(self, content: bytes, kind: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: a terminal shows the study's progress."""

    server = ThreadingHTTPServer((ADDRESS, port), Handler)
    server.daemon_threads = True
    port = server.server_address[1]
    names = {f"{ADDRESS}:{port}", f"localhost:{port}"}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{ADDRESS}:{port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
