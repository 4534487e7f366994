"""The live page: what it shows, and that it is for this machine and for reading only."""

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from hypergradient.study.live.server import FILES, served
from hypergradient.study.live.snapshot import Watched
from hypergradient.study.run.execute import execute
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work


@pytest.fixture
def half(small, tmp_path):
    """A study of which the runs of one seed are done, and one of the other has begun."""
    store = Store(tmp_path / "results")
    runs = small.runs()
    work([run for run in runs if run.seed == 0], store, None)
    begun = next(run for run in runs if run.seed == 1)
    with store.claim(begun) as claim, claim.metrics([record(0), record(1)]):
        yield small, store, begun


def record(epoch):
    return {"epoch": epoch, "step": 6 * epoch, "train_loss": 2.0, "valid_loss": 2.5, "lr_mean": 0.1}


def ask(address, path="/data", method="GET", host=None):
    place = urlsplit(address)
    connection = HTTPConnection(place.hostname, place.port, timeout=10)
    connection.request(method, path, headers={"Host": host or place.netloc})
    answer = connection.getresponse()
    return answer.status, dict(answer.getheaders()), answer.read()


def test_a_snapshot_has_what_is_done_and_what_is_under_way(half):
    study, store, begun = half
    seen = Watched(study, store).snapshot()
    count = len(study.runs())
    assert seen["runs"] == count
    assert seen["counts"] == {"done": count // 2, "training": 1}
    assert seen["trained"] == 2 * count // 2 + 1
    assert seen["epochs"] == 2 * count
    last = seen["curves"][-1]
    assert (last["id"], last["state"], last["epoch"]) == (begun.id, "training", [0, 1])
    assert last["valid_loss"] == [2.5, 2.5]


def test_what_has_ended_is_read_once(half, monkeypatch):
    study, store, begun = half
    watched = Watched(study, store)
    watched.snapshot()
    read = []
    monkeypatch.setattr(Store, "records", lambda _, run: read.append(run.id) or [])
    watched.snapshot()
    assert read == [begun.id]


def test_it_answers_with_the_data_and_its_own_files_only(half):
    study, store, _ = half
    with served(study, store) as address:
        assert address.startswith("http://127.0.0.1:")
        status, headers, content = ask(address)
        assert status == 200
        assert json.loads(content)["title"] == "Small"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        for path in FILES:
            assert ask(address, path)[0] == 200
        for path in ("/../cli.py", "/study.json", "//etc/passwd", "/live.js?x", "/%2e%2e/cli.py"):
            assert ask(address, path)[0] == 404
        for method in ("POST", "PUT", "DELETE"):
            assert ask(address, method=method)[0] == 501


def test_a_page_elsewhere_cannot_read_it(half):
    """By a name of its own that it has made point to 127.0.0.1."""
    study, store, _ = half
    with served(study, store) as address:
        assert ask(address, host="evil.example:80")[0] == 403
        assert ask(address, host=f"localhost:{urlsplit(address).port}")[0] == 200


def test_it_writes_nothing_and_ends_with_the_block(half):
    study, store, _ = half
    before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()}
    with served(study, store) as address:
        ask(address)
    assert before == {
        path: path.stat().st_mtime_ns for path in store.folder.rglob("*") if path.is_file()
    }
    with pytest.raises(ConnectionError):
        ask(address)


@pytest.mark.usefixtures("no_page")
def test_run_says_where_the_live_page_is(command, study_file):
    code, shown, complaint = command("run", study_file(), "--live", "--workers", 1)
    assert (code, complaint) == (0, "")
    assert "live: http://127.0.0.1:" in shown


def test_status_serves_it_until_ctrl_c(command, study_file, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(small.runs()[:1], Store(tmp_path / "results" / "small"), workers=1)
    asked = []

    def press(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("hypergradient.study.commands.time.sleep", press)
    code, shown, complaint = command("status", study_file(), "--serve")
    asked.append(shown)
    assert (code, complaint) == (0, "")
    assert "live: http://127.0.0.1:" in shown
