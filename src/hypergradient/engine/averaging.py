"""An optimizer whose result is an average: how to see it, save it, and keep it within a set."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, overload

import torch
from torch import Tensor

from hypergradient.engine.iterates import Average
from hypergradient.engine.optimizer import HypergradientOptimizer
from hypergradient.engine.stand_ins import STAND_INS, read, theta_of, wide, write
from hypergradient.engine.tensors import version_of
from hypergradient.engine.types import Group, State

LOOKS = frozenset({1, 10, 100, 1000})
"""After which steps it looks whether somebody else writes to the parameters."""

PLAIN = frozenset({Tensor, torch.nn.Parameter})


class AveragingOptimizer(HypergradientOptimizer):
    """An optimizer with the iterate `Average`.

    While it trains the parameters hold y_t, where gradients are taken. The average x_t, which is
    the result, lies beside z_t on the line through both.
    """

    iterate: Average
    _steps = 0
    _versions: "dict[Tensor, int] | None" = None  # after the last step, if it was one to look at

    def initial_state(self, group: Group, p: Tensor) -> State:
        """Return the state of a parameter before its first step, of what moves in its place."""
        theta = wide(p) if p.dtype in STAND_INS else p
        state = super().initial_state(group, theta)
        if not p.is_complex() and theta is not p:
            state["theta"] = theta.clone()
        return state

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move the parameters, then the learning rate.

        After `eval()` a step needs a closure: it is called with y_t in the parameters, and at the
        end of the step they hold the average again. So whoever calls `eval()` once, and gives each
        step a closure, can evaluate and save the model at any time.

        Args:
            closure: evaluates the model again, calls `backward()`, and returns the loss.

        Returns:
            The closure's loss; None without a closure.

        Raises:
            RuntimeError: the parameters hold the average, and there is no closure.
        """
        if closure is None or self.param_groups[0]["training"]:
            return super().step(closure)
        self.train()
        try:
            return super().step(closure)
        finally:
            self.eval()

    def eval(self) -> None:
        """Put the average x_t into the parameters: to evaluate, and to save the model."""
        self._switch(training=False)

    def train(self) -> None:
        """Put y_t, where gradients are taken, back into the parameters."""
        self._switch(training=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the parameters hold the average x_t inside a `with` block, to evaluate or save them.

        After it they hold what they held before, to rounding.

        Example:
            >>> from hypergradient import Untuned
            >>> model = torch.nn.Linear(2, 1)
            >>> optimizer = Untuned(model.parameters())
            >>> with optimizer.averaged():
            ...     saved = {name: value.clone() for name, value in model.state_dict().items()}
        """
        training = self.param_groups[0]["training"]
        self.eval()
        try:
            yield
        finally:
            if training:
                self.train()

    @torch.no_grad()
    def project(self, constraint: Callable[[], object]) -> None:
        """Keep parameters in a set: call it after `step` in place of writing to the parameters.

        What is written to the parameters alone reaches y_t only, and not the average. This applies
        the constraint to x_t and to z_t, between which y_t lies. So the set should be convex, as
        bounds, masks, and rows that are put back are. After `eval()` the average obeys it to
        rounding, as it is computed from y_t and z_t. A weight that the constraint has changed has
        no part in the next hypergradient: it would not move at another rate either.

        Args:
            constraint: writes to the model's parameters, such as `lambda: weight.clamp_(min=0)`;
                it is called twice, without gradients.

        Example:
            >>> from hypergradient import Untuned
            >>> w = torch.nn.Parameter(torch.ones(3))
            >>> optimizer = Untuned([w])
            >>> w.sum().backward()
            >>> optimizer.step()
            >>> optimizer.project(lambda: w.clamp_(min=0))
        """
        every = [*self._moved()]
        training = self.param_groups[0]["training"]
        self.eval()
        before = [theta_of(p, state).clone() for p, state, _ in every]
        constraint()
        average = [theta_of(p, state).clone() for p, state, _ in every]
        for (p, state, _), x, projected in zip(every, before, average, strict=True):
            state["direction_trace"].masked_fill_(x != projected, 0.0)
            write(p, state["z"])
        constraint()
        for (p, state, _), projected in zip(every, average, strict=True):
            state["z"].copy_(read(p, state["z"]))
            write(p, projected)
        if training:
            self.train()
        self._versions = None

    def _moved(self) -> Iterator[tuple[Tensor, State, Group]]:
        """Yield the parameters that have moved, which have a z_t."""
        for group in self.param_groups:
            for p in group["params"]:
                if "z" in self.state.get(p, {}):
                    yield p, self.state[p], group

    @torch.no_grad()
    def _switch(self, *, training: bool) -> None:
        if self.param_groups[0]["training"] is training:
            return
        self._versions = None
        for group in self.param_groups:
            group["training"] = training
        for p, state, group in self._moved():
            theta = theta_of(p, state)
            self.iterate.switch(theta, state, group, training=training)
            if theta is not p and not p.is_complex():
                write(p, theta)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a pickled, copied or loaded state."""
        self._versions = None
        super().__setstate__(state)

    def _before_step(self) -> None:
        super()._before_step()
        if not self.param_groups[0]["training"]:
            raise RuntimeError(
                "step() after eval(): the parameters are the average, where no gradient belongs; "
                "call optimizer.train() before training goes on, or give each step a closure"
            )
        if self._versions is not None and not torch.compiler.is_compiling():
            written = any(version_of(p) != version for p, version in self._versions.items())
            self._versions = None
            if written:
                self._steps = max(LOOKS)  # once is enough
                warnings.warn(
                    "somebody else has written to the parameters since the last step. That changes "
                    "where gradients are taken, but not the average, which eval() puts into them. "
                    "To clamp, mask or put back weights after each step, use "
                    "optimizer.project(lambda: weight.clamp_(min=0))",
                    stacklevel=5,
                )

    def _after_step(self) -> None:
        super()._after_step()
        if not torch.compiler.is_compiling() and self._steps < max(LOOKS):
            self._steps += 1
            if self._steps in LOOKS:
                self._versions = {
                    p: version_of(p)
                    for group in self.param_groups
                    for p in group["params"]
                    if type(p) in PLAIN and not p.is_inference()
                }
