"""What a base optimizer says of itself: the direction u_t that a learning rate is then applied to.

`Base` is all that a new optimizer needs. `KernelBase` adds hooks by which the optimizers of torch
keep their speed; each hook has `direction` as its reference, and the tests hold it to that.
"""

import math
from collections.abc import Container, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hypergradient.engine.iterates import LastIterate
from hypergradient.engine.options import numbers
from hypergradient.engine.types import Direction, Group, Number, State


class Base:
    """An update direction u_t, with theta_t = theta_{t-1} - alpha_t u_t.

    Subclass it, and give an instance to `Hypergradient` or `Untuned`, which do the rest: learning
    rates of every granularity and rule, weight decay, schedulers, saving, and distribution.

    Attributes:
        defaults: the options of the base and their defaults. Each is a keyword of the optimizer
            and a key of its parameter groups. `weight_decay`, `decoupled_weight_decay` and
            `maximize` are options of all bases; give them here to change their defaults.
        max_rms: the root mean square of a parameter's u_t that the engine lets through: u_t is
            divided by max(1, rms(u_t) / max_rms), before weight decay is added.
        needs_whole: whether `direction` is wrong for a part of a parameter. Shards are refused.
        sized_by_gradient: whether u_t is as large as g_t, as that of SGD. Then the steps of
            `Untuned` have the length of usual gradients (step_length.py).
        takes_sparse: whether `direction` takes sparse gradients.

    Example:
        >>> from hypergradient import Hypergradient
        >>> class SignDescent(Base):
        ...     defaults = {"eps": 0.0}
        ...     def direction(self, g, p, state, group):
        ...         return g / (g.abs() + group["eps"])
        >>> p = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = Hypergradient([p], base=SignDescent(), lr=0.1, eps=1e-8)
        >>> p.square().sum().backward()
        >>> optimizer.step()
        >>> p.detach()
        tensor([0.9000, 0.9000])
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    max_rms: ClassVar[float] = math.inf
    needs_whole: ClassVar[bool] = False
    sized_by_gradient: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """The name under which parameter groups and saved states know this base."""
        return type(self).__name__.lower()

    def init(self, p: Tensor) -> State:
        """Make the state of a parameter before its first step, at which u_0 = 0.

        The engine calls this once for each parameter, at its first step with a gradient.

        Args:
            p: the parameter theta_0.

        Returns:
            Tensors by name; empty for a base without a state.
        """
        return {}

    def direction(self, g: Tensor, p: Tensor, state: State, group: Group) -> Tensor:
        """Advance the state, and return u_t.

        The engine calls this once a step for each parameter that has a gradient.

        Args:
            g: the gradient g_t of what is minimised, L2 decay included, shaped like p. Do not
                write to it.
            p: the parameter theta_{t-1}. Do not write to it: the engine moves it.
            state: what `init` made, to be read and written to.
            group: the options of the parameter's group.

        Returns:
            u_t, shaped like p. Decoupled weight decay is added by the engine.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `direction`")

    def check(self, group: Group) -> None:
        """Check the options of a parameter group, at construction and when a group is added.

        Raises:
            ValueError: names the option, its value and the remedy.
        """
        if "betas" in self.defaults:
            check_betas(group["betas"], len(self.defaults["betas"]))
        for name in ("momentum", "alpha"):
            if name in self.defaults:
                check_share(name, group[name])
        if "eps" in self.defaults:
            numbers("eps", group["eps"], "1e-8")


def check_count(betas: Any, count: int) -> None:
    """Check that an option is so many numbers.

    Raises:
        ValueError: it is not.
    """
    usual = ", ".join(("0.9", "0.999", "0.9999")[:count])
    if not isinstance(betas, tuple | list) or len(betas) != count:
        raise ValueError(f"betas={betas!r} is not {count} numbers in [0, 1), such as ({usual})")


def check_betas(betas: Any, count: int) -> None:
    """Check decay rates such as Adam's.

    Raises:
        ValueError: they are not `count` numbers in [0, 1).
    """
    check_count(betas, count)
    for i, beta in enumerate(betas):
        check_share(f"betas[{i}]", beta)


def check_share(name: str, value: Any) -> None:
    """Check that an option is a number in [0, 1)."""
    try:
        right = 0 <= float(value) < 1 and not isinstance(value, str)
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(f"{name}={value!r} is not a number in [0, 1), such as 0.9")


class StateUpdate(NamedTuple):
    """How the state advances from u_{t-1} to u_t by fixed coefficients, alpha_t having no part.

    With a and b for the two tensors of `direction_state`.

    Attributes:
        first: (i, j, k) for a <- i g_t + j a + k b, of which j or k is 0.
        second: (i, j) for b <- i g_t + j b; for an `AdamDirection` with the square of g_t.
        direction: how u_t follows from them.
    """

    first: tuple[float, float, float]
    second: tuple[float, float]
    direction: Direction


class Derivative(NamedTuple):
    """How u_{t-1} depends on an option of its group, with the state before it held fixed.

    Attributes:
        states: the names of the state tensors that the derivative is computed from.
        function: (theta_{t-1}, alpha_{t-1}, *states) -> d u_{t-1} / d option, of aligned chunks.
        by_rate: whether that is times the rate in theta. Else it is minus the derivative of theta.
    """

    states: tuple[str, ...]
    function: Direction
    by_rate: bool = True


class KernelBase(Base):
    """A base with faster ways to make the same step: torch's kernels, and the C pass.

    The engine asks its hooks in each step. Parameters of one `batch_key` take part together.
    """

    fused_takes_halves: ClassVar[bool] = (
        True  # whether torch's fused CPU kernel is right in 16 bits
    )

    remembers: ClassVar[tuple[str, ...]] = ()
    """Options that `last_direction` needs as they were in the last step: OneCycleLR, for one,
    changes betas between steps. The engine keeps each as group["last_" + name]."""

    def init_for(self, p: Tensor, group: Group) -> State:
        """Make the state of a parameter where it depends on options of its group."""
        return self.init(p)

    def goes_plainly(self, group: Group) -> bool:
        """Return whether no faster way makes the step that a group asks for, but `direction`."""
        return False

    def direction_state(self, group: Group) -> tuple[str, ...]:
        """Return the names of the state tensors from which u_{t-1} is computed."""
        raise NotImplementedError

    def missing_state(self, state: State, name: str, p: Tensor) -> Tensor:
        """Return zeros for a tensor of `direction_state` that the state lacks, and keep them there.

        A state lacks one that torch's kernel makes at the first step, and one of an option that
        was changed in mid-training.
        """
        state[name] = torch.zeros_like(p)
        return state[name]

    def batch_key(self, state: State) -> Number:
        """Return what parameters must have in common to move together, such as the step count."""
        return 0.0

    def iterate(self, group: Group) -> LastIterate | None:
        """Return how theta moves where that is not theta -= alpha u_t; else None."""

    def last_direction(self, group: Group, key: Number) -> Direction:
        """Return the function that computes u_{t-1} from the tensors of `direction_state`."""
        raise NotImplementedError

    def direction_coefficients(self, group: Group) -> tuple[float, float] | None:
        """Return (a, b) for state["direction"] <- u_t = a g_t + b (buffer); None if not kept."""

    def state_update(self, group: Group, key: Number) -> StateUpdate | None:
        """Return how the C pass advances the state; None where it cannot."""

    def derivative(self, name: str, group: Group, key: Number) -> Derivative | None:
        """Return how u_{t-1} depends on an option that learns; None where that is not known.

        Called before the options move. Decoupled weight decay is the engine's.

        Args:
            name: "momentum", "beta1", "beta2" or "weight_decay".
            group: the options at which u_{t-1} was made, but `last_betas` for betas.
            key: the `batch_key`.
        """

    def past(self, names: Container[str], g: Tensor, state: State) -> State:
        """Return the tensors that the next step's derivatives need, and that advancing would lose.

        Called in each step before the state advances.

        Args:
            names: the options that learn.
            g: the gradient g_t.
            state: the state after step t - 1.
        """
        return {}

    def descend(
        self, group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]
    ) -> None:
        """Advance the states, and subtract group["lr"] * u_t, by one of torch's kernels."""
        raise NotImplementedError


def last_theta(direction: Direction) -> Direction:
    """Return the function that computes theta_{t-2} = theta_{t-1} + alpha_{t-1} u_{t-1}."""

    def theta_before(theta: Tensor, alpha: Tensor, *memory: Tensor) -> Tensor:
        before: Tensor = theta + alpha * direction(theta, alpha, *memory)
        return before

    return theta_before


def stored_direction(_theta: Tensor, _alpha: Tensor, u: Tensor, *_rest: Tensor) -> Tensor:
    """Return u_{t-1} where a tensor of its own keeps it."""
    return u
