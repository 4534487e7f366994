"""Draw docs/no-rate.png: AdamW at nine learning rates beside Untuned, which is given none.

python docs/figures/no_rate.py

The study beside this file, no-rate.toml, takes half a minute. Its results go to results/no-rate,
and a second call draws what is there.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from matplotlib.axes import Axes

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "no-rate"
BLUE, GREY = "#0b5fa5", "0.35"
LINES = (
    ("constant", "AdamW, constant", {"color": GREY, "marker": "o"}),
    ("cosine", "AdamW, cosine", {"color": GREY, "marker": "s", "linestyle": "--"}),
)


def run() -> pl.DataFrame:
    """Train what is missing, and return a row for each run."""
    command = [sys.executable, "-m", "hypergradient", "run", str(HERE / "no-rate.toml")]
    subprocess.run([*command, "--out", str(RESULTS)], check=True)  # noqa: S603
    return pl.read_parquet(RESULTS / "runs.parquet")


def draw(axes: Axes, runs: pl.DataFrame, measure: str) -> None:
    """Draw one measure against the learning rate, with the range of the seeds."""
    spread = [
        pl.col(measure).median().alias("middle"),
        pl.col(measure).min().alias("low"),
        pl.col(measure).max().alias("high"),
    ]
    for schedule, label, style in LINES:
        chosen = runs.filter((pl.col("schedule") == schedule) & pl.col("lr").is_not_null())
        rows = chosen.group_by("lr").agg(spread).sort("lr")
        axes.plot(rows["lr"], rows["middle"], label=label, markersize=4, **style)
        axes.fill_between(rows["lr"], rows["low"], rows["high"], color=GREY, alpha=0.15, lw=0)
    ours = runs.filter(pl.col("lr").is_null()).select(spread).row(0, named=True)
    axes.axhline(ours["middle"], color=BLUE, linewidth=2, label="Untuned, no learning rate")
    axes.axhspan(ours["low"], ours["high"], color=BLUE, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel="learning rate given to AdamW")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92")


def main() -> None:
    """Run the study and draw the picture."""
    runs = run()
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)
    draw(left, runs, "train_loss_final")
    left.set(ylabel="final training loss", yscale="log")
    left.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
    left.minorticks_off()
    draw(right, runs, "valid_accuracy_final")
    right.set(ylabel="validation accuracy")
    right.minorticks_off()
    right.yaxis.set_major_formatter("{x:.0%}")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(HERE.parent / "no-rate.png", dpi=150)


if __name__ == "__main__":
    main()
