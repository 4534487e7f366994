"""The local cluster is open to nobody but its command: it wants a key, and serves no pages."""

import shutil
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
from processes import record

import distributed
from hypergradient.study.errors import StudyError
from hypergradient.study.run import dask_local, dask_pool
from hypergradient.study.run.dask_local import one_run_security, openssl_key


def no_cryptography(*_, **__):
    raise ImportError("cryptography")


@pytest.fixture(scope="module", params=["cryptography", "openssl"])
def client(request):
    """A cluster whose key the one or the other has made."""
    if request.param == "openssl" and shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    if request.param == "cryptography":
        pytest.importorskip("cryptography")
    with ExitStack() as resources, pytest.MonkeyPatch.context() as patch:
        if request.param == "openssl":
            patch.setattr(dask_local.Security, "temporary", no_cryptography)
        patch.setattr(dask_pool, "SCHEDULER_SECONDS", 120.0)  # on a busy machine
        client = dask_pool.connect("local", 1, resources)
        client.wait_for_workers(1, timeout=120)
        yield client


def listening():
    """The ports on which this process and those that it started listen."""
    this = psutil.Process()
    ports = {}
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    ports[connection.laddr.port] = connection.laddr.ip
    return ports


def test_its_command_can_use_it(client):
    assert client.submit(sum, (1, 2)).result(timeout=120) == 3


@pytest.mark.parametrize("stranger", ["no key", "no encryption", "another key"])
def test_a_stranger_s_task_is_refused(client, stranger):
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    workers = list(client.scheduler_info()["workers"])
    assert all(worker.startswith("tls://127.0.0.1:") for worker in workers)
    security = one_run_security() if stranger == "another key" else None
    if stranger == "no encryption":
        address = address.replace("tls://", "tcp://")
    with pytest.raises((OSError, TypeError, ValueError)):
        distributed.Client(address, timeout=1, security=security, set_as_default=False)
    record("a stranger on a local cluster", 1, 0, 0, "none: the connection is refused")


def test_nothing_serves_pages(client):
    assert client.status == "running"
    ports = listening()
    assert ports
    assert set(ports.values()) == {"127.0.0.1"}
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
            stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
            try:
                assert not stranger.recv(100).startswith(b"HTTP")
            except OSError:
                continue


def test_its_scratch_files_are_its_own(client):
    """What dask puts there are pickles, and its usual folder anybody can make first."""
    (worker,) = client.scheduler_info()["workers"].values()
    scratch = Path(worker["local_directory"])
    (own,) = (folder for folder in scratch.parents if folder.name.startswith("hypergradient-"))
    assert own.stat().st_mode & 0o077 == 0


def test_without_cryptography_and_openssl_it_is_one_line(monkeypatch):
    monkeypatch.setattr(dask_local, "OPENSSL", ("no-such-command",))
    with pytest.raises(StudyError, match="needs a key that only its own processes know: pip"):
        openssl_key()
