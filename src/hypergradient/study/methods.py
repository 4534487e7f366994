"""The methods that studies compare: a name, the optimizer it stands for, and its fixed options."""

from __future__ import annotations

import inspect
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hypergradient.study import references
from hypergradient.study.schedules import HYPERGRADIENT, SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from torch import Tensor
    from torch.optim import Optimizer

# The kernels that this package's optimizers choose, and the fastest.
FUSED: Mapping[str, Any] = {"fused": True}
NESTEROV: Mapping[str, Any] = {"momentum": 0.9, "nesterov": True}


@dataclass(frozen=True)
class Method:
    """An optimizer and the options that make it the method of that name.

    Attributes:
        optimizer: The class, as ``package.module:Class``, so that naming it does not load torch.
        fixed: Options that are part of the method.
    """

    optimizer: str
    fixed: Mapping[str, float | bool | str] = field(default_factory=dict)

    def optimizer_class(self) -> Callable[..., Optimizer]:
        """Import and return the optimizer's class."""
        optimizer: Callable[..., Optimizer] = references.load(self.optimizer)
        return optimizer

    @property
    def adaptive(self) -> bool:
        """Whether it moves its learning rate by hypergradients."""
        from hypergradient.engine.optimizer import HypergradientOptimizer  # noqa: PLC0415

        optimizer = self.optimizer_class()
        return isinstance(optimizer, type) and issubclass(optimizer, HypergradientOptimizer)

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules it goes with, its own first."""
        if self.adaptive:
            return (HYPERGRADIENT,)
        return tuple(name for name in SCHEDULES if name != HYPERGRADIENT)

    def accepts(self, option: str) -> bool:
        """Return whether the optimizer's constructor has an option of that name."""
        parameters = inspect.signature(self.optimizer_class()).parameters
        return option in parameters and option != "params"

    def build(
        self,
        parameters: Iterable[Tensor],
        hyper: Mapping[str, float | bool | str],
        weight_decay: float = 0.0,
    ) -> Optimizer:
        """Return the optimizer over ``parameters`` with the run's hyperparameters.

        TOML has no null, so the text "none" stands for None (``lr_bounds = "none"``).
        """
        options = {key: None if value == "none" else value for key, value in hyper.items()}
        if self.accepts("weight_decay") or weight_decay:
            options["weight_decay"] = weight_decay
        return self.optimizer_class()(parameters, **self.fixed, **options)

    def lacking(self) -> str | None:
        """Return which package the optimizer needs that is not installed, or None."""
        import torch  # noqa: PLC0415

        try:
            self.build([torch.zeros(1, requires_grad=True)], {})
        except ModuleNotFoundError as error:
            return f"{error}: pip install 'hypergradient[bench]'"
        except Exception:  # noqa: BLE001  (what is wrong with options is said elsewhere)
            return None
        return None

    def problem(self, hyper: Mapping[str, float | bool | str]) -> str | None:
        """Return what the optimizer has against these hyperparameters, or None."""
        import torch  # noqa: PLC0415  (2 s, and not needed to list the studies)

        if unknown := [key for key in hyper if not self.accepts(key)]:
            return f"no option {', '.join(unknown)}"
        if repeated := [key for key in hyper if key in self.fixed or key == "weight_decay"]:
            return f"{', '.join(repeated)} cannot be set in a grid: the method or study fixes it"
        parameter = torch.zeros(1, requires_grad=True)
        parameter.grad = torch.zeros(1)
        try:
            optimizer = self.build([parameter], hyper)
            set_mode(optimizer, training=True)
            stepper(optimizer)(torch.zeros(()))
        except ModuleNotFoundError:  # said before runs are trained: a study can be read without it
            return None
        except (TypeError, ValueError, RuntimeError) as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 (a person's optimizer may raise anything)
            return f"{type(error).__name__}: {error}"
        return None


METHODS = {
    "SGD": Method("torch.optim:SGD", FUSED),
    "SGDN": Method("torch.optim:SGD", {**FUSED, **NESTEROV}),
    "Adam": Method("torch.optim:Adam", FUSED),
    "AdamW": Method("torch.optim:AdamW", FUSED),
    "SGD-HD": Method("hypergradient:SGDHD"),
    "SGDN-HD": Method("hypergradient:SGDHD", NESTEROV),
    "Adam-HD": Method("hypergradient:AdamHD"),
    "AdamW-HD": Method("hypergradient:AdamWHD"),
    "Untuned": Method("hypergradient:Untuned"),
    "Untuned-SGD": Method("hypergradient:Untuned", {"base": "sgd"}),
    # Others that find a rate, from their authors' packages: see ``peers``.
    "Prodigy": Method("hypergradient.study.peers:prodigy"),
    "ProdigyPlus": Method("hypergradient.study.peers:prodigy_plus"),
    "D-Adaptation": Method("hypergradient.study.peers:d_adaptation"),
    "DoG": Method("hypergradient.study.peers:dog"),
    "Schedule-Free": Method("hypergradient.study.peers:schedule_free"),
    "MoMo": Method("hypergradient.study.peers:momo"),
    "Mechanic": Method("hypergradient.study.peers:mechanic"),
}
"""The methods by name. Adding one here is all it takes; its other options can be set in a grid."""


def find(name: str) -> Method:
    """Return a method by its name, that of a class of ``torch.optim``, or ``package.module:Class``.

    Raises:
        ValueError: There is no such class.
    """
    if name in METHODS:
        return METHODS[name]
    method = Method(name if references.is_reference(name) else f"torch.optim:{name}")
    if not callable(method.optimizer_class()):
        raise ValueError(f"{name} is not an optimizer's class")  # noqa: TRY004
    return method


def has_modes(optimizer: Optimizer) -> bool:
    """Return whether an optimizer evaluates other weights than it trains, as Schedule-Free does."""
    return hasattr(optimizer, "train") and hasattr(optimizer, "eval")


def set_mode(optimizer: Optimizer, *, training: bool) -> None:
    """Put the weights to train, or those to evaluate, into the model, where they differ."""
    if has_modes(optimizer):
        getattr(optimizer, "train" if training else "eval")()


def stepper(optimizer: Optimizer) -> Callable[[Tensor], object]:
    """Return what makes a step, given the minibatch's loss: a ``step`` with a ``loss`` gets it."""
    own: Any = optimizer  # a schedule may replace its step later
    if "loss" in inspect.signature(own.step).parameters:
        return lambda loss: own.step(loss=loss.detach())
    return lambda _: own.step()


def identity(name: str) -> dict[str, Any]:
    """Return what determines a method's results, ready for JSON.

    The packages' own optimizers change with the version of this package and of torch, which are
    not part of it; a person's own optimizer is known by its source.
    """
    own = {"source": references.source_hash(name)} if references.is_reference(name) else {}
    return asdict(find(name)) | own
