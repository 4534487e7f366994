"""One small training, in one process on the whole batch and under each wrapper of torch's.

Run as a program it prints the table of `docs/distributed.md`:

    python tests/distributed/training.py
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from launch import launch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from hypergradient import SGDHD, AdamHD, AdamWHD, Hypergradient, Untuned
from own_bases import TwoMeans

GRANULARITIES = ("global", "group", "tensor", "element")
RULES = ("additive", "multiplicative")
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Untuned": (Untuned, {}),
    "Untuned, sgd": (Untuned, {"base": "sgd"}),
    "SGDHD": (SGDHD, {"momentum": 0.9, "nesterov": True}),
    "AdamHD": (AdamHD, {}),
    "AdamWHD": (AdamWHD, {"weight_decay": 0.1}),
    "own base": (Hypergradient, {"base": TwoMeans(), "weight_decay": 0.1}),
}
UNTUNED = ("Untuned", "Untuned, sgd")
BETAS = {"additive": 1e-3, "multiplicative": 0.2}  # rates move by some percent a step
STEPS = 5
SAMPLES = 16


@dataclass(frozen=True)
class Setting:
    """A method with the options of its rate."""

    method: str
    granularity: str
    rule: str
    reduction: str = "sum"

    def build(self, model: nn.Module, make: Callable[..., Any] | None = None) -> Any:
        hd, options = METHODS[self.method]
        weights = [p for name, p in model.named_parameters() if name.endswith("weight")]
        biases = [p for name, p in model.named_parameters() if name.endswith("bias")]
        if hd is Untuned:  # it has a rule of its own, and `lr` is a factor
            halved = [{"params": weights}, {"params": biases, "lr": 0.5}]
            built = make or (lambda cls, *args, **kwargs: cls(*args, **kwargs))
            return built(hd, halved, granularity=self.granularity, **options)
        beta = BETAS[self.rule]
        scale = SAMPLES if self.reduction == "mean" and self.rule == "additive" else 1
        groups = [{"params": weights}, {"params": biases, "lr": 0.03}]
        return (make or (lambda cls, *args, **kwargs: cls(*args, **kwargs)))(
            hd,
            groups,
            **{"lr": 0.05, **options},
            hypergrad_lr=beta * scale,
            granularity=self.granularity,
            rule=self.rule,
            reduction=self.reduction,
        )


def settings() -> list[Setting]:
    """Each class at each granularity; rules alternate, so that both meet all of either."""
    every = list(product([name for name in METHODS if name not in UNTUNED], GRANULARITIES))
    rules = [RULES[(i + i // len(GRANULARITIES)) % 2] for i in range(len(every))]
    adaptive = [Setting(*each, rule) for each, rule in zip(every, rules, strict=True)]
    return [
        *adaptive,
        *(Setting(*each, "relative") for each in product(UNTUNED, ("global", "group"))),
    ]


def means() -> list[Setting]:
    return [Setting("SGDHD", granularity, "additive", "mean") for granularity in GRANULARITIES[:-1]]


def network(dtype: torch.dtype) -> nn.Sequential:
    """Layers that do not divide evenly: of 8, 3 and 1 rows, so that some ranks hold nothing."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), nn.Tanh(), nn.Linear(3, 1)
    ).to(dtype)


def batches(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    whole = [
        (torch.randn(SAMPLES, 6, generator=generator), torch.randn(SAMPLES, 1, generator=generator))
        for _ in range(STEPS)
    ]
    return [(x.to(dtype), y.to(dtype)) for x, y in whole]


# Each wrapper makes of a network (what to call, which share of a batch it takes, how to build the
# optimizer); the share is (i, n), the i-th of n slices.
Wrapped = tuple[nn.Module, tuple[int, int], Callable[..., Any] | None]


def alone(model: nn.Module) -> Wrapped:
    return model, (0, 1), None


def ddp(model: nn.Module) -> Wrapped:
    return DistributedDataParallel(model), (distributed.get_rank(), size()), None


def zero(model: nn.Module) -> Wrapped:
    # torch warns here of its own use of torch.jit
    from torch.distributed.optim import ZeroRedundancyOptimizer  # noqa: PLC0415

    def make(hd: Any, groups: Any, **options: Any) -> Any:
        local = partial(hd, process_group=distributed.group.WORLD)
        return ZeroRedundancyOptimizer(groups, local, **options)

    return DistributedDataParallel(model), (distributed.get_rank(), size()), make


def fsdp(model: nn.Module) -> Wrapped:
    return shard(model, mesh_of((size(),), ("shard",))), (distributed.get_rank(), size()), None


def hsdp(model: nn.Module) -> Wrapped:
    mesh = mesh_of((2, size() // 2), ("replicate", "shard"))
    return shard(model, mesh), (distributed.get_rank(), size()), None


def tp(model: nn.Module) -> Wrapped:
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(model, mesh_of((size(),), ("tp",)), plan), (0, 1), None


def fsdp_tp(model: nn.Module) -> Wrapped:
    mesh = mesh_of((2, size() // 2), ("dp", "tp"))
    model = parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    return shard(model, mesh["dp"]), (mesh.get_local_rank("dp"), 2), None


def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def size() -> int:
    return distributed.get_world_size()


_meshes: dict[Any, DeviceMesh] = {}


def mesh_of(shape: tuple[int, ...], names: tuple[str, ...]) -> DeviceMesh:
    if (shape, names) not in _meshes:
        _meshes[shape, names] = init_device_mesh("cpu", shape, mesh_dim_names=names)
    return _meshes[shape, names]


WRAPPERS: dict[str, Callable[[nn.Module], Wrapped]] = {
    "DDP": ddp,
    "ZeRO": zero,
    "FSDP2": fsdp,
    "HSDP": hsdp,
    "TP": tp,
    "FSDP2 + TP": fsdp_tp,
}
WORLDS = {2: ("DDP", "ZeRO", "FSDP2", "TP"), 4: tuple(WRAPPERS)}


def loss_of(call: nn.Module, share: tuple[int, int], batch: tuple[Tensor, Tensor]) -> Tensor:
    i, n = share
    x, y = (t.tensor_split(n)[i] for t in batch)
    return nn.functional.mse_loss(call(x), y)


def train(
    setting: Setting, wrap: Callable[[nn.Module], Wrapped], dtype: torch.dtype = torch.float64
) -> tuple[list[Tensor], list[Tensor]]:
    """The rates and the parameters after some steps, whole, in the order of the network."""
    model = network(dtype)
    call, share, make = wrap(model)
    optimizer = setting.build(model, make)
    for batch in batches(dtype):
        optimizer.zero_grad()
        loss_of(call, share, batch).backward()
        optimizer.step()
    return rates_of(optimizer, model), [whole(p) for p in model.parameters()]


def rates_of(optimizer: Any, model: nn.Module) -> list[Tensor]:
    """The rate of each parameter; a rank that does not have it asks the one that does."""
    rates: list[Tensor | None] = []
    local = getattr(optimizer, "optim", optimizer)
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    for p in model.parameters():
        own = groups[p]["granularity"] in ("tensor", "element")
        lr = local.state.get(p, {}).get("lr") if own else groups[p]["lr"]
        rates.append(None if lr is None else whole(lr))
    if local is optimizer:
        return [rate for rate in rates if rate is not None]
    everywhere: list[Any] = [None] * size()
    distributed.all_gather_object(everywhere, rates)
    return [next(r for r in known if r is not None) for known in zip(*everywhere, strict=True)]


def whole(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return full.as_subclass(Tensor).clone()


@dataclass(frozen=True)
class Outcome:
    """How far a training is from that of a single process."""

    rates: float  # largest relative difference
    parameters: float  # largest difference, relative to the largest parameter
    same: bool  # whether rates and parameters are, bit for bit, those of rank 0
    moved: float  # relative distance of the rates from where they began


def compare(setting: Setting, wrapper: str, dtype: torch.dtype = torch.float64) -> Outcome:
    rates, parameters = train(setting, WRAPPERS[wrapper], dtype)
    rates_alone, parameters_alone = train(setting, alone, dtype)
    starts = [0.05 if p.dim() > 1 else 0.03 for p in parameters]
    everywhere: list[Any] = [None] * size()
    distributed.all_gather_object(everywhere, [t.numpy().tobytes() for t in rates + parameters])
    return Outcome(
        max(relative(*pair) for pair in zip(rates, rates_alone, strict=True)),
        max(relative(*pair) for pair in zip(parameters, parameters_alone, strict=True)),
        all(known == everywhere[0] for known in everywhere),
        min(relative(rate, start) for rate, start in zip(rates, starts, strict=True)),
    )


def relative(x: Tensor, y: Tensor | float) -> float:
    other = torch.as_tensor(y, dtype=torch.float64)
    return float((x.double() - other).abs().max() / other.abs().max())


def outcomes(
    wrapper: str, chosen: Sequence[Setting] | None = None, dtype: torch.dtype = torch.float64
) -> dict[Setting, Outcome]:
    """By setting, all of them if none are chosen."""
    every = [*settings(), *means()] if chosen is None else chosen
    return {setting: compare(setting, wrapper, dtype) for setting in every}


def table() -> Iterator[str]:
    """Rows of Markdown: the largest difference from one process, for each granularity."""
    yield f"| ranks | wrapper | {' | '.join(GRANULARITIES)} | parameters | equal on all ranks |"
    yield "|---" * (len(GRANULARITIES) + 4) + "|"
    for world, wrappers in WORLDS.items():
        for wrapper in wrappers:
            found = launch(world, outcomes, wrapper)[0]
            worst = [
                max(o.rates for s, o in found.items() if s.granularity == granularity)
                for granularity in GRANULARITIES
            ]
            cells = [f"{x:.0e}" for x in [*worst, max(o.parameters for o in found.values())]]
            same = "bitwise" if all(o.same for o in found.values()) else "NO"
            yield f"| {world} | {wrapper} | {' | '.join(cells)} | {same} |"


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
