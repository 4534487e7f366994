"""Adafactor: what its state is, beyond the laws of all bases (test_laws_bases.py)."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from hypergradient import Hypergradient, Untuned
from hypergradient.optimizers.adafactor import Adafactor

GROUP = {"beta2_decay": -0.8, "d": 1.0}


def directions(shape: tuple[int, ...], gradients: list[Tensor]) -> Iterator[Tensor]:
    base, p = Adafactor(), torch.zeros(shape)
    state = base.init(p)
    for g in gradients:
        yield base.direction(g.view(shape), p, state, GROUP)


def noise(*shape: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) * (t + 1) for t in range(4)]


def test_a_convolution_is_a_matrix_of_its_filters() -> None:
    gradients = noise(4, 18)
    for matrix, filters in zip(
        directions((4, 18), gradients), directions((4, 2, 3, 3), gradients), strict=True
    ):
        assert torch.equal(matrix, filters.view(4, 18))


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (2, 3, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_zeros_make_directions_of_zeros(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    base, p = Adafactor(), torch.zeros(shape, dtype=dtype)
    state = base.init(p)
    for _ in range(2):
        assert torch.equal(base.direction(p.clone(), p, state, GROUP), p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_dead_row_and_a_dead_column_stay_where_they_are(dtype: torch.dtype) -> None:
    g = torch.ones(3, 3, dtype=dtype)
    g[0], g[:, 0] = 0.0, 0.0
    base = Adafactor()
    u = base.direction(g, g, base.init(g), GROUP)
    assert torch.equal(u == 0, g == 0)
    assert u.isfinite().all()


def test_a_gradient_that_is_suddenly_large_makes_a_step_of_the_usual_size() -> None:
    """After 50 steps the mean square moves by a 23rd a step; unclipped the rms would be near 5."""
    gradients = [torch.ones(12)] * 50 + [torch.full((12,), 1e4)]
    *_, usual, last = directions((3, 4), gradients)
    torch.testing.assert_close(last, usual)
    assert float(last.square().mean().sqrt()) == pytest.approx(1.0)


def test_untuned_keeps_two_tensors_a_matrix() -> None:
    """8 bytes a parameter in float32: z_t and the trace; rows and columns are a hundredth here."""
    p = torch.nn.Parameter(torch.randn(200, 300))
    optimizer = Untuned([p], base="adafactor")
    p.grad = torch.randn(200, 300)
    optimizer.step()
    kept = {name: tuple(value.shape) for name, value in optimizer.state[p].items()}
    assert kept == {
        "z": (200, 300),
        "direction_trace": (200, 300),
        "row_var": (200,),
        "col_var": (300,),
        "step": (),
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beta2_decay": 0.8}, "beta2_decay=0.8 is not a number <= 0, such as -0.8"),
        ({"beta2_decay": float("nan")}, "beta2_decay=nan is not a number <= 0"),
        ({"d": 0.0}, "d=0.0 is not a number > 0, such as 1.0"),
        ({"d": -1.0}, "d=-1.0 is not a finite number >= 0"),
        ({"granularity": "member"}, "granularity='member' does not go with Adafactor"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Hypergradient([torch.zeros(2, 2)], base="adafactor", lr=0.1, **options)
