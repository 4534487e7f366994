"""Runs that were recorded keep their ids and seeds, wherever the code that they name has moved."""

import hashlib

import pytest

from hypergradient.study.declare.load import built_in_studies, load_study, read_toml
from hypergradient.study.declare.run import RESULTS_VERSION, Run
from hypergradient.study.import_by_name import RECORDED, import_object, recorded_name, source_hash

RECORDED_RUNS = {
    ("demo", None): "3b7f2459ec97e28f",
    ("drop-in", "paper"): "0036e520853cf0ec",
    ("drop-in", "laptop"): "d0fcbbd4bea2d6ce",
    ("gdtuo", "paper"): "5cef6951d69271eb",
    ("gdtuo", "laptop"): "d2a468488144c9a9",
    ("gdtuo-towers", "paper"): "4a1826b7f116637d",
    ("gdtuo-towers", "laptop"): "4a1826b7f116637d",
    ("iclr-curves", "paper"): "c8921453907d7648",
    ("iclr-curves", "laptop"): "e95a6c32a7444e8c",
    ("iclr-sensitivity", "paper"): "c8921453907d7648",
    ("iclr-sensitivity", "laptop"): "0477e9a05ec5ae41",
    ("iclr-tuning", "paper"): "986b99bba0d45711",
    ("iclr-tuning", "laptop"): "e6ba39cf49889e9b",
    ("learned", "paper"): "525e159d5828a3e6",
    ("learned", "laptop"): "33f40d97590e2770",
    ("network-digits", None): "3d2b18e1807c0a4f",
    ("network-mnist", None): "0a0eb8f62542573d",
    ("network-stability", None): "dc847948a1791b2e",
    ("poster-alpha0", "paper"): "392e49bbfe9933e2",
    ("poster-alpha0", "laptop"): "6e9e4799df3ad631",
    ("poster-heatmap", "paper"): "110e8dab2066fc63",
    ("poster-heatmap", "laptop"): "d2cb76acdc3f4067",
    ("tuning-logreg", "paper"): "81900eab3888e47f",
    ("tuning-logreg", "laptop"): "81900eab3888e47f",
    ("tuning-mlp", "paper"): "24682594686486f1",
    ("tuning-mlp", "laptop"): "10d49ff4b47b9bef",
    ("tuning-vgg", "paper"): "61e260f35efdcf98",
    ("tuning-vgg", "laptop"): "f3d6b5b1028a60cc",
    ("untuned", "paper"): "e23f05d80af3ef79",
    ("untuned", "laptop"): "37811f4fabe8abcb",
    ("untuned-lm", "paper"): "5c16d3334d3c5008",
    ("untuned-lm", "laptop"): "a7c80154911a4d04",
    ("untuned-ablation", "paper"): "0b6b18a6839f8d3e",
    ("untuned-ablation", "laptop"): "e764c53de9779da3",
    ("untuned-lengths", "paper"): "1f990bb78797a23e",
    ("untuned-lengths", "laptop"): "b6073562c2fcfae9",
}
"""The first 16 hex digits of the sha256 of all ids and seeds of a study at a scale, in their order.

They are those of results version 3, before the harness moved into folders. Every id contains the
version, so the runs are given this one: what is compared is all else that an id is made of. A
change of one is a mistake, unless the study itself was meant to change."""

VERSION = 3


def of_version(run, version):
    """The run as an earlier version of this package would have declared it."""
    fields = {name: getattr(run, name) for name in Run.model_fields}
    return Run.model_construct(**fields | {"results_version": version})


def digest(runs):
    runs = [of_version(run, VERSION) for run in runs]
    lines = [f"{run.id} {run.derive_seed('batches', 1)}" for run in runs]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_every_built_in_study_is_recorded():
    scales = {
        (name, scale)
        for name, path in built_in_studies().items()
        for scale in read_toml(path).get("scale", {None: {}})
    }
    assert scales == RECORDED_RUNS.keys()


@pytest.mark.parametrize(("study", "scale"), RECORDED_RUNS)
def test_ids_and_seeds_are_those_that_were_recorded(study, scale):
    runs = load_study(built_in_studies()[study], scale).runs()
    assert digest(runs) == RECORDED_RUNS[study, scale]


def test_an_id_contains_the_version_of_the_results():
    run = load_study(built_in_studies()["demo"]).runs()[0]
    assert run.id == of_version(run, RESULTS_VERSION).id
    assert run.id != of_version(run, RESULTS_VERSION + 1).id


def test_moved_modules_are_where_the_table_says():
    for place in RECORDED:
        assert import_object(f"{place}:__name__") == place


def test_only_what_has_moved_has_another_recorded_name(tmp_path):
    ablation = "hypergradient.study.methods.ablations:OneStep"
    assert recorded_name(ablation) == "hypergradient.study.ablations:OneStep"
    for same in ("SGD", "hypergradient:SGDHD", "own.py:task", "torch.optim:SGD"):
        assert recorded_name(same) == same
    own = tmp_path / "own.py"
    own.write_text("task = 1")
    first = source_hash(f"{own}:task")
    assert first == hashlib.sha256(b"task = 1").hexdigest()[:16]
