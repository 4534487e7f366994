"""Laws of torch's test_optim.py: step hooks, and errors."""

import re
from typing import Any

import pytest
import torch
from entries import BETAS, HD, INFOS, Candidate, Problem, each
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.testing._internal.common_optimizers import OptimizerErrorEnum


@each(without=())
def test_step_hooks_run_in_torchs_order(candidate: Candidate) -> None:
    ran: list[str] = []
    problem, other = Problem(), Problem()
    optimizer, second = candidate.ours(problem.params), torch.optim.SGD(other.params)

    def note(what: str) -> Any:
        return lambda *_: ran.append(what)

    handles = [
        register_optimizer_step_pre_hook(note("all before")),
        register_optimizer_step_post_hook(note("all after")),
    ]
    for each_one in (optimizer, second):
        handles.append(each_one.register_step_pre_hook(note("before")))
        handles.append(each_one.register_step_post_hook(note("after")))
    once = ["all before", "before", "after", "all after"]
    for steps, each_one in enumerate((optimizer, second, optimizer), start=1):
        each_one.step()
        assert ran == once * steps
    for handle in handles:
        handle.remove()
    optimizer.step()
    assert ran == once * 3


@each(without=["foreach", "fused"])
def test_step_hooks_may_change_the_closure(candidate: Candidate) -> None:
    optimizer = candidate.ours(Problem().params)
    optimizer.register_step_pre_hook(lambda opt, _args, kwargs: ((opt, lambda: 5.0), kwargs))
    assert optimizer.step(lambda: 4.0) == 5.0


ERRORS = [
    pytest.param(name, index, id=f"{HD[name].__name__}-{error.optimizer_error_input.desc}")
    for name, info in INFOS.items()
    for index, error in enumerate(info.optim_error_inputs_func("cpu", torch.float32))
]


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("name", "index"), ERRORS)
def test_refuses_what_torchs_refuses(name: str, index: int, beta: str) -> None:
    case = INFOS[name].optim_error_inputs_func("cpu", torch.float32)[index]
    params, options = case.optimizer_error_input.params, case.optimizer_error_input.kwargs

    def run() -> None:
        optimizer = HD[name](params, hypergrad_lr=BETAS[beta], **options)
        if case.error_on is OptimizerErrorEnum.STEP_ERROR:
            optimizer.step()

    with pytest.raises(case.error_type) as caught:  # a warning too: the tests raise all of them
        run()
    assert re.search(case.error_regex, str(caught.value))
