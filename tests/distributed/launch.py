"""Real processes that talk over gloo: a deadlock in them fails a test, and does not hang it."""

import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from forking import fork_server

TIMEOUT = 150  # seconds for all the work of a launch, on a machine that is busy otherwise


def launch(world: int, work: Callable[..., Any], *args: Any, timeout: float = TIMEOUT) -> list[Any]:
    """Run work(*args) in `world` processes of one process group; what it returns, by rank."""
    context = fork_server()
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(world)]
        job = pickle.dumps((work, args))  # as it is: multiprocessing would share tensors by files
        processes = [
            context.Process(
                target=_rank, args=(rank, world, folder, timeout, sender, job), daemon=True
            )
            for rank, (_, sender) in enumerate(pipes)
        ]
        for process, (_, sender) in zip(processes, pipes, strict=True):
            process.start()
            sender.close()
        deadline = time.monotonic() + timeout
        try:
            answers = [_receive(receiver, deadline) for receiver, _ in pipes]
        finally:
            for process in processes:
                process.join(max(0.0, min(5.0, deadline - time.monotonic())))
                process.kill()
    failures = [f"rank {rank}: {error}" for rank, (_, error) in enumerate(answers) if error]
    assert not failures, "\n".join(failures)
    return [answer for answer, _ in answers]


def _receive(receiver: Connection, deadline: float) -> tuple[Any, str | None]:
    try:
        if receiver.poll(max(0.0, deadline - time.monotonic())):
            answer: tuple[Any, str | None] = pickle.loads(receiver.recv_bytes())  # noqa: S301
            return answer
    except EOFError:
        return None, "died"
    return None, "did not finish: a deadlock?"


def _rank(
    rank: int,
    world: int,
    folder: str,
    timeout: float,
    sender: Connection,
    job: bytes,
) -> None:
    torch.set_num_threads(1)
    work, args = pickle.loads(job)  # noqa: S301
    answer: tuple[Any, str | None]
    try:
        distributed.init_process_group(
            "gloo",
            init_method=(Path(folder) / "store").as_uri(),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout),
        )
        answer = work(*args), None
        distributed.barrier()
        distributed.destroy_process_group()
    except BaseException:  # noqa: BLE001 - the parent raises it
        answer = None, traceback.format_exc()
    sender.send_bytes(pickle.dumps(answer))
