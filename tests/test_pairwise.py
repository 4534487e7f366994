"""Law: in cases that are drawn pairwise, all pairs of values meet."""

from itertools import combinations, product

from hypothesis import given
from hypothesis import strategies as st

from pairwise import covering


@given(st.lists(st.integers(1, 6), min_size=2, max_size=5))
def test_all_pairs_meet(sizes: list[int]) -> None:
    rows = covering(sizes)
    assert len(rows) == len(set(rows))
    for i, j in combinations(range(len(sizes)), 2):
        met = {(row[i], row[j]) for row in rows}
        assert met == set(product(range(sizes[i]), range(sizes[j])))


def test_pairs_that_make_no_sense_are_left_out() -> None:
    rows = covering([4, 5, 3], lambda row: row[0] != row[1])
    assert all(row[0] != row[1] for row in rows)
    assert len({row[:2] for row in rows}) == 4 * 5 - 4
    assert len({row[::2] for row in rows}) == 4 * 3


def test_cases_are_few() -> None:
    assert len(covering([20, 15, 3, 2, 3])) <= 330  # of 5,400; 20 x 15 at least
    assert len(covering([10, 10, 10, 10])) <= 200  # of 10,000
