"""A dask cluster on this machine that only the command which starts it can use.

Whoever reaches a dask scheduler can run any code as the person who started it, and other users of a
machine reach 127.0.0.1. So all parts of the cluster speak TLS and show each other a key that is
made for this one run and never written to a file; and none of them serves web pages.
"""

from __future__ import annotations

import logging
import re
import subprocess
from typing import TYPE_CHECKING, Any

from distributed.security import Security

import distributed as untyped
from hypergradient.study.errors import StudyError
from hypergradient.study.extras import install

if TYPE_CHECKING:
    from pathlib import Path

distributed: Any = untyped

HOST = "127.0.0.1"

OPENSSL = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-keyout", "-", "-days", "365"),
    *("-subj", "/CN=dask-internal", "-addext", "subjectAltName=DNS:dask-internal"),
)
"""Makes a key and its certificate, and prints both."""


def serve_nothing(*_: Any, **__: Any) -> None:
    """Do nothing where dask starts its web server, which ``dashboard=False`` does not prevent."""


QUIET = {"start_http_server": serve_nothing, "__module__": __name__}  # found by name, elsewhere

QuietScheduler: Any = type("QuietScheduler", (distributed.Scheduler,), QUIET)

QuietWorker: Any = type("QuietWorker", (distributed.Worker,), QUIET)


def local_cluster(workers: int, scratch: Path) -> Any:
    """Start a cluster of that many processes, each of which trains one run at a time.

    Args:
        workers: Their number.
        scratch: A folder that only this person can write. What dask may put there are pickles,
            and by default it puts them where anybody could have made the folder.

    Raises:
        StudyError: No key can be made.
    """
    security = one_run_security()
    shared = {"host": HOST, "protocol": "tls://", "security": security, "dashboard": False}
    quiet = {"nthreads": 1, "silence_logs": logging.CRITICAL, "worker_class": QuietWorker}
    quiet["local_directory"] = str(scratch)
    return distributed.SpecCluster(
        scheduler={"cls": QuietScheduler, "options": {**shared, "port": 0}},
        workers={
            number: {"cls": distributed.Nanny, "options": shared | quiet}
            for number in range(workers)
        },
        security=security,
        silence_logs=logging.CRITICAL,
    )


def one_run_security() -> Any:
    """Return a new key for all parts of one cluster, made by cryptography or else by openssl.

    Raises:
        StudyError: Neither is there.
    """
    untyped_security: Any = Security
    try:
        return untyped_security.temporary()
    except ImportError:
        key, certificate = openssl_key()
    roles = ("client", "scheduler", "worker")
    return untyped_security(
        require_encryption=True,
        tls_ca_file=certificate,
        **{f"tls_{role}_key": key for role in roles},
        **{f"tls_{role}_cert": certificate for role in roles},
    )


def openssl_key() -> tuple[str, str]:
    """Return a new key and its certificate, as text, by the command openssl."""
    try:
        done = subprocess.run(OPENSSL, check=True, capture_output=True, text=True, timeout=60)  # noqa: S603
        found = re.findall(r"-----BEGIN .*?-----END [A-Z ]+-----\n", done.stdout, re.DOTALL)
        key, certificate = found
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise StudyError(
            "--cluster local needs a key that only its own processes know: "
            f"{install('cluster')} (cryptography), or install openssl"
        ) from error
    return key, certificate
