"""Compiles every kernel for GPUs of NVIDIA, which needs none.

Triton's interpreter takes some things that its compiler refuses. `test_compiled.py` runs this in a
process of its own, as the interpreter is chosen when Triton is imported.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hypergradient.engine import hypergradients
from hypergradient.engine.gpu import average_kernels, formula_kernels, kernels
from hypergradient.engine.gpu.formula import record
from hypergradient.engine.inner_products import InnerProducts
from hypergradient.engine.iterates import NUMBERS, Average
from hypergradient.engine.rules import RULES, rule_of

CAPABILITIES = (80, 90)  # an A100, an H100
POINTERS = {torch.float32: "*fp32", torch.float64: "*fp64"}
TABLES = {
    **dict.fromkeys(("rows", "rates", "pools", "steps"), "*i64"),
    **dict.fromkeys(("recipes", "sums"), "*fp64"),
    **dict.fromkeys(("partials", "scalars"), "*fp32"),
    **dict.fromkeys(("size_of_chunk", "n_rates", "n_steps"), "i32"),
    "chunks": "*i32",
}
F32, BF16 = kernels.TYPES[torch.float32], kernels.TYPES[torch.bfloat16]
CUT = {"BLOCK": 1024, "STAGES": 1, "ALIGNED": True}


def compile_one(kernel: Any, signature: dict[str, str], constants: dict[str, Any]) -> str:
    """Return the assembly for the last of the GPUs."""
    text = ""
    for capability in CAPABILITIES:
        own = signature | dict.fromkeys(constants, "constexpr")
        source = ASTSource(kernel, {name: own[name] for name in kernel.arg_names}, constants)
        target = GPUTarget("cuda", capability, 32)
        text = triton.compile(source, target=target, options={"num_warps": 4}).asm["ptx"]
    return text


def compile_table(kernel: Any, **constants: Any) -> None:
    names = [name for name in kernel.arg_names if name not in constants]
    assert compile_one(kernel, {name: TABLES[name] for name in names}, constants)


def compile_formula(function: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    tensors = [*inputs, *outputs]
    distinct = {id(t): t for t in tensors}
    places = {own: i for i, own in enumerate(distinct)}
    formula = record(function, inputs, outputs, [places[id(t)] for t in tensors])
    signature = {f"x{i}": POINTERS[t.dtype] for i, t in enumerate(distinct.values())}
    block = 256 if inputs[0].dim() else 1
    text = compile_one(
        formula_kernels._kernel(formula.source),
        {**signature, "constants": "*fp64", "n": "i32"},
        {"BLOCK": block},
    )
    assert "cvt.rn.f32.f64" in text  # it rounds to the precision of rates


def number(start: float, shape: tuple[int, ...] = ()) -> Tensor:
    return torch.full(shape, start)


def compile_rule(rule: str, beta: Any, shape: tuple[int, ...]) -> None:
    bounds = (0.0, math.inf)
    group = {"rule": rule, "hypergrad_lr": beta, "lr_bounds": bounds, "differentiable": False}
    memory = [number(first, shape) for first in rule_of(group).memory.values()]
    alpha, h = number(0.1, shape), number(1.0, shape)
    moved = partial(hypergradients._moved, group, traced=RULES[rule].uses_trace)
    compile_formula(moved, [alpha, h, *memory], [alpha, *memory])
    if not shape:
        width = 3 if rule_of(group).needs_norms else 1
        products = InnerProducts(norms=width > 1)
        of_mean = {**group, "reduction": "mean"}
        compile_formula(
            lambda numbers: [products._formed(of_mean, numbers)],
            [number(1.0) for _ in range(width)],
            [number(0.0)],
        )


def main() -> None:
    """Compile all of them."""
    rules = [*((rule, 1e-3) for rule in RULES), ("adam", (1e-3, 1e-4)), ("additive", (1e-3, 1e-4))]
    for rule, beta in rules:
        for shape in ((), (300,)):
            compile_rule(rule, beta, shape)
    average, names = Average(), ("scheduled_lr", "learned_scale", "lr")
    group = {name: number(0.5) for name in (*average.group_numbers, *names)}

    def begin(numbers: list[Tensor]) -> list[Tensor]:
        own = dict(zip(group, numbers, strict=True)) | {"reference_lr": 1, "differentiable": False}
        return [*average._begin(own)[:NUMBERS]]

    compile_formula(begin, [*group.values()], [number(0.0) for _ in range(NUMBERS)])
    for adam in (True, False):
        compile_table(average_kernels.average, ADAM=adam, **CUT)
        for elements in (True, False):
            for theta in (F32, BF16):
                types = {"G_TYPE": theta, "THETA_TYPE": theta, "A_TYPE": F32, "B_TYPE": F32}
                compile_table(
                    kernels.visit, **types, RATE_TYPE=F32, RATIO=adam, HAS_B=adam,
                    ELEMENTS=elements, NORMS=True, **CUT,
                )  # fmt: skip
        types = {"THETA_TYPE": F32, "A_TYPE": F32, "B_TYPE": F32, "RATE_TYPE": F32}
        compile_table(kernels.descend, **types, RATIO=adam, **CUT)
        compile_table(kernels.add_up, NORMS=adam, BLOCK=1024)
        compile_table(kernels.move_rates, RATE_TYPE=F32, NORMS=adam, SUMMED=False, BLOCK=1024)
    compile_table(kernels.count_steps, BLOCK=1024)
    compile_table(average_kernels.square, **CUT)


if __name__ == "__main__":
    main()
