"""Build the wheel, install it beside torch alone, and see that it works and what it says.

python scripts/check_wheel.py [torch==2.13.0]

It needs nothing but Python and pip. The new environment is made in a temporary folder.
"""

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

ROOT = Path(__file__).parents[1]

STEPS = """
import importlib.util, torch, hypergradient
assert importlib.util.find_spec("pydantic") is None, "this environment is not empty"
for name in hypergradient.__all__:
    if name == "Base":
        continue
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1)
    options = {"base": "adam"} if name == "Hypergradient" else {}
    optimizer = getattr(hypergradient, name)(model.parameters(), **options)
    x = torch.randn(64, 8)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], (name, losses)
    print(f"{name}: {losses[0]:.3f} -> {losses[-1]:.3f}")
"""

NEEDED = ("py.typed", "engine/native.c", "studies/demo.toml", "study/report/templates/")
"""Files without which the package does less than it says."""


def run(*command: str, cwd: Path, expected: int = 0) -> str:
    """Run a command, and return what it prints."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COLUMNS"))}
    done = subprocess.run(  # noqa: S603
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != expected:
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def check_contents(wheel: Path) -> None:
    """See that files and the page on PyPI are whole."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("/METADATA"))
        page = message_from_bytes(archive.read(metadata)).get_payload()
    missing = [part for part in NEEDED if not any(f"hypergradient/{part}" in n for n in names)]
    if missing:
        sys.exit(f"{wheel.name} lacks {', '.join(missing)}")
    if "](docs/" in str(page) or 'src="docs/' in str(page):
        sys.exit("the page on PyPI has links that lead nowhere")
    print(f"{wheel.name}: {wheel.stat().st_size / 1000:.0f} kB, {len(names)} files")


def main() -> None:
    """Build, install, and check."""
    torch = sys.argv[1] if len(sys.argv) > 1 else "torch"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        run(*pip, "wheel", "--quiet", "--no-deps", "-w", name, str(ROOT), cwd=folder)
        (wheel,) = folder.glob("*.whl")
        check_contents(wheel)

        venv.create(folder / "empty", with_pip=True)
        python = str(folder / "empty" / "bin" / "python")
        pip = (python, "-m", "pip", "--disable-pip-version-check")
        run(*pip, "install", "--quiet", torch, str(wheel), cwd=folder)
        print(run(python, "-W", "ignore", "-c", STEPS, cwd=folder), end="")

        said = run(str(folder / "empty" / "bin" / "hypergradient"), "list", cwd=folder, expected=2)
        if "pip install 'hypergradient[study]'" not in said or "Traceback" in said:
            sys.exit(f"without the extra the command says:\n{said}")
        print(f"without the extra `study`: {said.strip()}")


if __name__ == "__main__":
    main()
