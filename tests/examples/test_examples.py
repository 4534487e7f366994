"""The scripts of examples/ run, and learn."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hypergradient.study.comparison.rehearsal import rehearse
from hypergradient.study.declare.run import Run
from hypergradient.study.tasks.data import load
from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import find_task
from hypergradient.study.train.start import start_session

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """Run an example by its name, with arguments as on the command line."""

    def run(name: str, *arguments: str) -> float:
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return float(module.main(arguments))

    return run


@pytest.mark.parametrize("arguments", [(), ("--optimizer", "AdamW", "--lr", "1e-2")])
def test_digits_are_learned(main: Callable[..., float], arguments: tuple[str, ...]) -> None:
    assert main("mnist", "--epochs", "3", *arguments) > 0.9


def test_images_are_learned_by_convolutions(
    main: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = np.arange(80) % 2
    images = np.random.default_rng(0).normal(size=(80, 784)).astype(np.float32)
    images[classes == 1, :392] += 1  # the upper half is bright, or it is not
    data = Data(images[:40], classes[:40], images[40:], classes[40:])
    monkeypatch.setattr(load, "load_data", lambda *given: {("mnist", Path("there")): data}[given])
    arguments = ("--data-dir", "there", "--epochs", "10", "--batch-size", "8")
    assert main("mnist", *arguments) > 0.9


@pytest.mark.parametrize("optimizer", ["Untuned", "AdamW"])
def test_the_language_model_learns(
    main: Callable[..., float], optimizer: str, tmp_path: Path
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question. " * 100, encoding="utf-8")
    given = ["--text", str(text), "--optimizer", optimizer]
    assert main("language_model", *given, "--steps", "60", "--batch-size", "8") < 2.5


def test_the_language_model_has_a_text_of_its_own(main: Callable[..., float]) -> None:
    assert main("language_model", "--steps", "2", "--batch-size", "2") < 6


@pytest.mark.parametrize("factor", ["1", "16"])
def test_a_lora_learns_new_classes(
    main: Callable[..., float], monkeypatch: pytest.MonkeyPatch, factor: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", _no_peft)
    assert main("lora", "--epochs", "5", "--factor", factor) > 0.8


@pytest.mark.parametrize("name", ["compare_own_task", "compare_table", "compare_text"])
def test_tasks_to_compare_on_are_learned(name: str) -> None:
    task = str(EXAMPLES / f"{name}.py")
    rehearse(find_task(task), name, 31)
    run = Run(
        task=task,
        method="Untuned",
        hyper={},
        seed=0,
        study_seed=0,
        epochs=5,
        steps=50,
        batch_size=31,
        weight_decay=0.0,
    )
    session = start_session([run], find_task(task).load())
    first, *_, last = [record for _, record, _ in session.train(lambda _: None)]
    assert last.valid_loss < 0.9 * first.valid_loss
    assert last.metrics.keys() == find_task(task).metrics.keys()


_find_spec = importlib.util.find_spec


def _no_peft(name: str, package: str | None = None) -> object:
    return None if name == "peft" else _find_spec(name, package)
