"""The notebook of examples/ runs from its first cell to its last, and the LoRA by PEFT learns."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


def test_the_notebook_runs() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(EXAMPLES / "no_rate_to_choose.ipynb", 4)
    (settings,) = [cell for cell in notebook.cells if "EPOCHS = 20" in cell.source]
    settings.source = settings.source.replace("EPOCHS = 20", "EPOCHS = 4")
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert outputs[-1]["text"].startswith("Untuned: 0.")


@pytest.mark.usefixtures("peft_importable")
def test_the_lora_example_uses_peft() -> None:
    main = runpy.run_path(str(EXAMPLES / "lora.py"))["main"]
    assert main(["--epochs", "5"]) > 0.8
