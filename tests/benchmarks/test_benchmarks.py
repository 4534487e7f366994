"""The benchmark programs at a tiny size, so that they do not rot; nothing is timed here.

Their numbers go into a temporary folder and are thrown away.
"""

import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from hypergradient import SGDHD, AdamHD
from hypergradient.study.declare.load import load_study
from hypergradient.study.run import plan

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import bench  # noqa: E402
import contenders  # noqa: E402
import document  # noqa: E402
import growth  # noqa: E402
import overhead  # noqa: E402
import peers  # noqa: E402
import pictures  # noqa: E402
import throughput  # noqa: E402
from published import PublishedAdamHD, PublishedSGDHD  # noqa: E402
from recording import Recording, read  # noqa: E402

SHAPES = [(5, 3), (5,)]
KINDS = list(dict.fromkeys(c.kind for c in contenders.CONTENDERS))


def descend(kind: type, shapes: list[tuple[int, ...]], **options: object) -> list[Tensor]:
    """Parameters after ten steps down a quadratic function."""
    torch.manual_seed(0)
    parameters = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    optimizer = kind(parameters, **options)
    for _ in range(10):
        optimizer.zero_grad()
        sum((p**2).sum() for p in parameters).backward()
        optimizer.step()
    return parameters


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_the_published_sgd_is_ported_faithfully(options: dict[str, float]) -> None:
    options = {"lr": 0.01, "hypergrad_lr": 1e-3, **options}
    theirs = descend(PublishedSGDHD, SHAPES, **options)
    for p, q in zip(theirs, descend(SGDHD, SHAPES, **options, lr_bounds=None), strict=True):
        torch.testing.assert_close(p, q)


def test_the_published_adam_is_ours_for_one_tensor_and_not_for_two() -> None:
    """Its rate moves tensor by tensor, which one tensor does not show."""
    options = {"lr": 0.01, "hypergrad_lr": 1e-3, "eps": 1e-30}  # its place in the formula differs
    for shapes, same in ((SHAPES[:1], True), (SHAPES, False)):
        theirs = descend(PublishedAdamHD, shapes, **options)[0]
        ours = descend(AdamHD, shapes, **options, lr_bounds=None)[0]
        assert torch.allclose(theirs, ours, rtol=1e-9) == same


@pytest.mark.parametrize("contender", contenders.CONTENDERS, ids=lambda c: f"{c.kind}: {c.name}")
def test_every_contender_moves_all_parameters(contender: contenders.Contender) -> None:
    if contender.missing:
        pytest.skip(contender.missing)
    parameters = peers.fresh(SHAPES)
    before = [p.detach().clone() for p in parameters]
    step = peers.quietly(contender.make, parameters)
    losses = [step() for _ in range(3)]
    if contender.whole:  # its parameters are other tensors after each step
        assert losses[-1] < losses[0]
        return
    for p, q in zip(parameters, before, strict=True):
        assert p.isfinite().all()
        assert not torch.equal(p, q)


def test_a_peer_that_fails_is_reported_and_others_are_measured() -> None:
    def broken(_: contenders.Parameters) -> contenders.Step:
        raise TypeError("it wants another torch")

    unit, *_ = contenders.CONTENDERS
    absent = contenders.Contender("SGD", "absent", "rate-free", broken, None, "no_such_package")
    failing = contenders.Contender("SGD", "failing", "rate-free", broken, None)
    rows = peers.measure([unit, absent, failing], SHAPES, rounds=2)
    assert rows[unit.name]["ratio"] == 1
    assert rows[unit.name]["adds"] > 0
    assert rows["absent"] == {"cannot_run": "no_such_package is not installed"}
    assert rows["failing"]["cannot_run"].startswith("TypeError: it wants another torch (")


def test_memory_counts_what_the_state_holds() -> None:
    sgd, adam = (
        next(c for c in contenders.CONTENDERS if (c.kind, c.name) == (kind, "torch fused"))
        for kind in ("SGD", "Adam")
    )
    shapes = [(100, 100)]
    assert peers.memory([sgd], shapes)["torch fused"] == 0
    assert peers.memory([adam], shapes)["torch fused"] == pytest.approx(8, abs=0.1)


def test_numbers_are_kept_for_the_same_code_and_settings(tmp_path: Path) -> None:
    assert Recording("part", tmp_path, rounds=2).measure("row", lambda: 1) == 1
    assert Recording("part", tmp_path, rounds=2).measure("row", lambda: 2) == 1
    assert Recording("part", tmp_path, rounds=3).measure("row", lambda: 3) == 3
    content = json.loads((tmp_path / "part.json").read_text())
    content["made"]["code"] = "other"
    (tmp_path / "part.json").write_text(json.dumps(content))
    assert Recording("part", tmp_path, rounds=3).measure("row", lambda: 4) == 4


def test_the_grid_is_the_same_in_all_ways(tmp_path: Path) -> None:
    import by_hand  # noqa: PLC0415

    chosen = SimpleNamespace(epochs=3, runs=42)
    study = load_study(throughput.write_grid(tmp_path, chosen))
    assert study.epochs == 3
    grid = [(r.hyper["lr"], r.hyper.get("hypergrad_lr", by_hand.NONE)) for r in study.runs()]
    assert sorted(grid) == sorted(by_hand.SETTINGS)
    assert len(grid) == 42


@pytest.mark.parametrize(("script", "package"), throughput.WAYS.values())
def test_each_way_runs_a_setting(script: str, package: str | None, tmp_path: Path) -> None:
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if not (data := os.environ.get("HYPERGRADIENT_DATA_DIR")):
        pytest.skip("HYPERGRADIENT_DATA_DIR is not set: no MNIST")
    chosen = SimpleNamespace(runs=1, epochs=1, data_dir=Path(data))
    row = throughput.by_script(script, chosen, tmp_path)
    assert row.get("cannot_run") is None
    assert row["losses"].keys() == {"1e-06 0"}


def test_a_command_that_fails_or_hangs_is_reported() -> None:
    _, failure = throughput.timed([sys.executable, "-c", "raise SystemExit('no data')"])
    assert failure == "no data"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    seconds, failure = throughput.timed(sleep, limit=0.2)
    assert "not done" in failure
    assert seconds < 30


def test_growth_counts_its_synthetic_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = inspect.signature(growth.write_report)  # its figures take seconds, tested elsewhere
    monkeypatch.setattr(growth, "write_report", taken.bind)
    monkeypatch.setattr(plan, "PROBE_SECONDS", 0.0)
    rows = growth.harness(10)
    assert rows.keys() == {"plan", "status", "collect", "report"}
    for count in (10, 100, 1000):
        assert len(load_study(growth.write_study(count, tmp_path)).runs()) == count


def test_the_ladder_of_loops_trains() -> None:
    row = overhead.ladder("digits-logreg", 256, rounds=2, data_dir=None)
    assert all(seconds > 0 for seconds in row["seconds"].values())


def test_the_page_shows_every_part(tmp_path: Path) -> None:
    for kind in KINDS:
        of_kind = [c for c in contenders.CONTENDERS if c.kind == kind and not c.missing]
        for model in ("large", "logistic regression", "MLP 64-100-100-10"):
            measured = {c.name: dict.fromkeys(PEER_ROW, 1.5) for c in of_kind} | {
                peers.ADD: {"seconds": 1.0}
            }
            recorded("peers", tmp_path, f"{model}: {kind}", measured, parameters=100, threads=1)
    recorded(
        "throughput",
        tmp_path,
        "hypergradient run",
        {"seconds": 10.0, "runs": 42, "runs_a_minute": 252.0, "losses": {"0.1 0": 0.3}},
    )
    recorded("throughput", tmp_path, "Ray Tune", {"cannot_run": "no room", "seconds": 1.0})
    recorded(
        "growth",
        tmp_path,
        "runs 10",
        dict.fromkeys(pictures.COMMANDS, 1.0),
    )
    page = tmp_path / "benchmarks.md"
    document.write(tmp_path, page)
    text = page.read_text()
    assert "**SGDHD** | 1.5e+03 | 1.50 | 1.50 | 1.50 | 24 | 0.75 |" in text
    assert "- Ray Tune: no room" in text
    for name in ("peers", "throughput", "growth"):
        assert f"({name}.png)" in text
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


PEER_ROW = ("seconds", "ratio", "ratio_low", "ratio_high", "adds")


def recorded(part: str, folder: Path, key: str, row: object, **settings: int) -> None:
    Recording(part, folder, **settings).measure(key, lambda: row)
    assert read(part, folder)


def test_parts_are_programs() -> None:
    for part in (*bench.MEASURED, "bench", "by_hand", "by_optuna", "by_ray"):
        assert (BENCHMARKS / f"{part}.py").is_file()
