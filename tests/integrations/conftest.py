"""What the tests of integrations share: the document's examples, and packages not there."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

DOCUMENT = Path(__file__).parents[2] / "docs" / "integrations.md"


def _declare_torchvision() -> None:
    """Make torchvision importable beside a CPU build of torch.

    The wheel on PyPI is built for CUDA. Beside another torch its C++ operators do not load, and
    its import, which Lightning, PEFT and timm need, fails for want of the names of two.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401, PLC0415
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)


_kept: list[torch.library.Library] = []  # an operator lives as long as its library


@pytest.fixture
def peft_importable() -> None:
    """Skip where there is no PEFT, and let it import where torchvision is another torch's."""
    if importlib.util.find_spec("peft") is None:
        pytest.skip("peft is not installed: pip install 'hypergradient[integrations]'")
    _declare_torchvision()


@pytest.fixture
def example() -> Callable[..., dict[str, Any]]:
    """Run an example of docs/integrations.md by its name, and return what it leaves."""

    def run(name: str, *packages: str, **given: Any) -> dict[str, Any]:
        for package in packages:
            if importlib.util.find_spec(package) is None:
                pytest.skip(
                    f"{package} is not installed: pip install 'hypergradient[integrations]'"
                )
        if {"lightning", "peft", "timm"} & set(packages):
            _declare_torchvision()
        text = DOCUMENT.read_text(encoding="utf-8")
        block = re.search(rf'^```py title="{name}"\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
        assert block is not None, name
        namespace: dict[str, Any] = {"__name__": "example", **given}
        exec(compile(block[1], f"{DOCUMENT.name}: {name}", "exec"), namespace)  # noqa: S102
        return namespace

    return run
