"""Downloads from a server of this machine that is slow, breaks off, lies, or is a proxy."""

import os
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from processes import record

from hypergradient.study.tasks.data import download as module
from hypergradient.study.tasks.data.base import DataError
from hypergradient.study.tasks.data.download import download

CONTENT = os.urandom(300_000)
DIGEST = sha256(CONTENT).hexdigest()


class Server:
    """A server that behaves, for each request, as the next of its ways says; then well."""

    def __init__(self, ways):
        self.ways, self.asked, self.done = list(ways), [], Event()

    def answer(self, request):
        start = int((request.headers["Range"] or "bytes=0-")[6:-1])
        self.asked.append((request.path, start))
        way = self.ways.pop(0) if self.ways else "well"
        whole = way in {"ignores ranges", "lies"}
        start = 0 if whole else start
        content = bytes(len(CONTENT)) if way == "lies" else CONTENT
        if way == "error":
            request.send_error(503)
            return
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if way != "endless":
            request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if way == "breaks off":
            content = content[: start + 100_000]
        if way == "slow":
            request.wfile.write(content[start : start + 10])
            request.wfile.flush()
            self.done.wait(60)
            return
        request.wfile.write(content[start:])
        while way == "endless" and not self.done.is_set():
            request.wfile.write(content)


@contextmanager
def serving(*ways):
    server = Server(ways)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            try:
                server.answer(self)
            except OSError:
                self.close_connection = True  # the client has had enough

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server, f"http://127.0.0.1:{running.server_port}/file"
        finally:
            server.done.set()
            running.shutdown()


def get(target, *urls, size=300_000):
    return download(urls, DIGEST, target, size, "use --data-dir")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "file"


def test_one_that_breaks_off_is_resumed(target):
    with serving("breaks off", "breaks off") as (server, url):
        assert get(target, url).read_bytes() == CONTENT
        assert [start for _, start in server.asked] == [0, 100_000, 200_000]
        get(target, url)
        assert len(server.asked) == 3
    record("a download that breaks off", 2, 0, 0, "none: it is resumed")
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_the_next_command_and_another_mirror_go_on_from_where_it_was(target):
    with serving("breaks off", "error", "error") as (_, url), pytest.raises(DataError) as error:
        get(target, url)
    assert "503" in str(error.value)
    assert str(error.value).endswith("; use --data-dir")
    assert not target.exists()
    with serving() as (server, url):
        assert get(target, "http://127.0.0.1:9/file", url).read_bytes() == CONTENT
        assert [start for _, start in server.asked] == [100_000]


def test_a_server_that_knows_no_ranges_sends_all_again(target):
    with serving("breaks off", "ignores ranges") as (server, url):
        assert get(target, url).read_bytes() == CONTENT
        assert len(server.asked) == 2


@pytest.mark.parametrize("lie", ["lies", "endless"])
def test_what_is_not_the_file_is_never_kept(target, lie):
    with serving(*[lie] * 3) as (_, url), serving() as (_, honest):
        with pytest.raises(DataError, match=r"another content|sends more than 300000 bytes"):
            get(target, url)
        assert not target.exists()
        assert target.with_name("file.part").stat().st_size == 0
        assert get(target, honest).read_bytes() == CONTENT
    record(
        "a mirror that lies",
        1,
        0,
        0,
        "NAME cannot be downloaded (URL: it has another content); ...",
    )


def test_a_first_part_of_another_mirror_s_is_not_blamed_on_the_next(target):
    with serving() as (server, url):
        target.parent.mkdir()
        target.with_name("file.part").write_bytes(bytes(1000))
        assert get(target, url).read_bytes() == CONTENT
        assert [start for _, start in server.asked] == [1000, 0]


@pytest.mark.parametrize("limit", ["SILENT_SECONDS", "SLOW_SECONDS"])
def test_a_slow_server_is_left_for_the_next(target, monkeypatch, limit):
    monkeypatch.setattr(module, limit, 0.2 if limit == "SILENT_SECONDS" else 0.0)
    monkeypatch.setattr(module, "TRIES", 1)
    monkeypatch.setattr(module, "SLOW_BYTES", 11)
    with serving("slow") as (_, slow), serving() as (server, url):
        assert get(target, slow, url).read_bytes() == CONTENT
        assert [start for _, start in server.asked] == [10]


def test_a_file_that_has_changed_is_downloaded_anew(target):
    with serving() as (_, url):
        get(target, url).write_bytes(bytes(len(CONTENT)))
        assert get(target, url).read_bytes() == CONTENT


def test_it_goes_by_the_proxy_of_the_environment(target, monkeypatch):
    with serving() as (server, url):
        monkeypatch.setenv("http_proxy", url.removesuffix("/file"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert get(target, "http://mirror.invalid/data/file").read_bytes() == CONTENT
        assert server.asked == [("http://mirror.invalid/data/file", 0)]
