"""What a step is to do: recipes, which parameters and which rates."""

import math
from collections.abc import Hashable
from typing import NamedTuple

from torch import Tensor


class Recipe(NamedTuple):
    """How parameters move, and how their rate does.

    Attributes:
        maximize: whether g_t is minus the gradient.
        l2: the L2 penalty lambda that is part of g_t.
        first: (i, j, k) for a <- i g_t + j a + k b.
        second: (i, j) for b <- i g_t + j b, with the square of g_t for Adam.
        betas: Adam's, of the bias corrections; None where u is the state a itself.
        eps: Adam's.
        decay: Adam's decoupled weight decay lambda.
        norms: whether h_t needs <g_t, g_t> and <u_{t-1}, u_{t-1}>, whoever moves the rate.
        multiplicative: whether h_t is a cosine and the rate moves by a factor.
        hypergrad_lr: beta, the step size of the rate's own update.
        bounds: of the rate.
        mean: whether h_t is divided by the number of elements that share the rate.
        descends: whether theta moves here, and the step count with it.
    """

    maximize: bool
    l2: float
    first: tuple[float, float, float]
    second: tuple[float, float] = (0.0, 1.0)
    betas: tuple[float, float] | None = None
    eps: float = 0.0
    decay: float = 0.0
    norms: bool = False
    multiplicative: bool = False
    hypergrad_lr: float = 0.0
    bounds: tuple[float, float] | None = None
    mean: bool = False
    descends: bool = True

    @property
    def adam(self) -> bool:
        """Whether u_t is Adam's ratio of a and b."""
        return self.betas is not None

    def numbers(self) -> "Numbers":
        low, high = self.bounds or (-math.inf, math.inf)
        beta1, beta2 = self.betas or (0.0, 0.0)
        return Numbers(
            -1.0 if self.maximize else 1.0,
            self.l2,
            *(_log(beta1), _log(beta2), self.eps, self.decay),
            *self.first,
            *self.second,
            float(self.multiplicative),
            *(self.hypergrad_lr, low, high),
            *(float(self.mean), float(self.l2 != 0 or self.decay != 0), float(self.descends)),
        )


class Numbers(NamedTuple):
    """A recipe as the kernels read it: a row of float64. Names are those of `Recipe`."""

    sign: float
    l2: float
    log_beta1: float
    log_beta2: float
    eps: float
    decay: float
    a_g: float
    a_a: float
    a_b: float
    b_g: float
    b_b: float
    multiplicative: float
    hypergrad_lr: float
    low: float
    high: float
    mean: float
    reads_theta: float
    descends: float


class AverageRecipe(NamedTuple):
    """How parameters move whose iterate is an `Average`.

    Attributes:
        b: the share of the average x_t in y_t.
        group: the row of `AverageKernels.scalars` that is theirs.
        beta2: of Adam's v_t; None where u_t is the gradient.
        eps: added to Adam's sqrt(v_t).
        decay: the decoupled weight decay lambda.
        max_rms: what rms(u_t) of a parameter is at most, before the decay, for Adam.
    """

    b: float
    group: int = 0
    beta2: float | None = None
    eps: float = 0.0
    decay: float = 0.0
    max_rms: float = math.inf

    @property
    def adam(self) -> bool:
        """Whether u_t is Adam's."""
        return self.beta2 is not None

    @property
    def descends(self) -> bool:
        """Whether theta moves; here it always does."""
        return True

    @property
    def norms(self) -> bool:
        """Whether h_t needs norms; here it never does."""
        return False

    def numbers(self) -> "AverageNumbers":
        beta2 = self.beta2 or 0.0
        of_v = _log(beta2), beta2, 1 - beta2
        return AverageNumbers(self.b, *of_v, self.eps, self.decay, float(self.group), self.max_rms)


class AverageNumbers(NamedTuple):
    """An `AverageRecipe` as the kernels read it: a row of float64."""

    b: float
    log_beta2: float
    of_v: float
    of_g: float
    eps: float
    decay: float
    group: float
    max_rms: float


class Operands(NamedTuple):
    """One parameter and what moves it; all tensors dense, on one device and in one memory order.

    On an average theta is y, a the trace m, b Adam's v, and alpha stands for z.

    Attributes:
        theta: the parameter, theta_{t-1}.
        grad: its gradient.
        a: u_{t-1}, or Adam's m.
        b: the momentum buffer that Nesterov's u_t needs, or Adam's v; else None.
        alpha: its rate, 0-dim, or shaped like theta for element-wise rates, which are float32.
        step: the count of its steps, float32 and 0-dim, which Adam needs; else None.
        recipe: how it moves.
        pool: what names its inner products; None for element-wise rates, which move in the visit.
    """

    theta: Tensor
    grad: Tensor
    a: Tensor
    b: Tensor | None
    alpha: Tensor
    step: Tensor | None
    recipe: Recipe | AverageRecipe
    pool: Hashable


class RateStep(NamedTuple):
    """One rate, 0-dim, with the pool of its inner products, and its rule."""

    alpha: Tensor
    pool: Hashable
    recipe: Recipe


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0 else -math.inf
