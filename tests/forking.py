"""Processes forked from one that has imported torch: a new interpreter takes 3 s to do so."""

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = [
    "pytest",
    "torch._dynamo",  # which torch imports with the first optimizer, in 2 s
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    *(f"hypergradient.study.{name}" for name in ("run.train_runs", "cli", "results.collect")),
]


def fork_server() -> ForkServerContext:
    """Return the way to start processes that this process's server forks.

    It has one server, which imports what is asked for before its first fork; so all tests ask here.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(PRELOADED)
    return server
