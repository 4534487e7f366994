"""Law: the study gdtuo, trained on MNIST, has the accuracies that were published."""

import os
from pathlib import Path

import pytest

from hypergradient.study.declare.load import built_in_studies, load_study
from hypergradient.study.results.accuracy import beside_published_accuracies
from hypergradient.study.results.collect import collect
from hypergradient.study.results.published import read_published
from hypergradient.study.run.store import Store
from hypergradient.study.run.worker import work
from hypergradient.study.tasks.data.load import ENVIRONMENT_VARIABLE


@pytest.mark.skipif(ENVIRONMENT_VARIABLE not in os.environ, reason="no folder with MNIST")
def test_rows_are_within_a_point_of_the_paper(tmp_path: Path) -> None:
    """From the weights of the paper; either its number or that of its code on a later torch."""
    path = built_in_studies()["gdtuo"]
    study, store = load_study(path), Store(tmp_path)
    work(study.runs(), store, Path(os.environ[ENVIRONMENT_VARIABLE]))
    runs, _ = collect(study, store)
    table = beside_published_accuracies(runs, read_published(path.parent / str(study.published)))
    assert table.height == 10
    for row, ours, paper, rerun in table.select("row", "ours", "paper", "rerun").iter_rows():
        assert min(abs(ours - paper), abs(ours - rerun)) < 1, row
