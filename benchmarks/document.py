"""docs/benchmarks.md and its figures, from the raw numbers in docs/benchmarks."""

import os
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pictures
from contenders import ADD_BYTES, CONTENDERS
from overhead import STARTS
from peers import ADD
from recording import read
from throughput import SHORT

MODELS = {"logistic regression": "logistic regression", "MLP 64-100-100-10": "MLP"}
HEADINGS = {
    "step": "The step, and whole training steps",
    "stacking": "Stacked runs",
    "gdtuo": "Momentum, betas and step sizes that learn",
    "convex": "Gradients that smooth convex problems take",
}


def write(folder: Path, page: Path) -> None:
    """Write the page and the figures of all parts that were measured."""
    sections = {
        "peers": peers,
        "step": printed,
        "throughput": throughput,
        "stacking": printed,
        "gdtuo": printed,
        "convex": printed,
        "overhead": overhead,
        "growth": growth,
        "gpu_step": gpu_step,
        "gpu_training": gpu_training,
    }
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`, which writes this page from the numbers in `docs/benchmarks`. Times",
        "are medians, on the CPU but for the last sections, which `make gpu` measures.",
    ]
    for part, section in sections.items():
        content = read(part, folder)
        if content and content["rows"]:
            lines += ["", *section(part, content, folder, page.parent)]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def provenance(content: dict[str, Any], part: str) -> str:
    made = content["made"]
    settings = ", ".join(
        f"{key} {value if isinstance(value, str) else format(value, ',')}"
        for key, value in made["settings"].items()
    )
    return (
        f"*`python benchmarks/{part}.py` of commit {made['commit']}, {made['date']}: "
        f"{made['machine']}, torch {made['torch']}, Python {made['python']}"
        f"{settings and f'; {settings}'}.*"
    )


def table(head: Sequence[str], rows: list[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def image(name: str, alt: str, folder: Path, base: Path) -> list[str]:
    place = Path(os.path.relpath(folder / f"{name}.png", base)).as_posix()
    return ["", f"![{alt}]({place})", ""]


def printed(part: str, content: dict[str, Any], *_: Any) -> Iterator[str]:
    yield from (f"## {HEADINGS[part]}", "", provenance(content, part), "")
    yield content["rows"]["printed"].strip()


def peers(part: str, content: dict[str, Any], folder: Path, base: Path) -> Iterator[str]:
    rows = content["rows"]
    count = content["made"]["settings"]["parameters"]
    yield from ("## A step, and everything you could take instead", "", provenance(content, part))
    pictures.write(pictures.peers(rows), folder / "peers.png")
    yield from image("peers", "Each optimizer's step against torch's fused one", folder, base)
    yield (
        f"Milliseconds a step on {count / 1e6:.1f} million float32 parameters in 62 tensors, and "
        "its ratio to torch's fused step of the same base update, there and on two small models, "
        "all interleaved. The floor is what the exact algorithm must move, in bytes a parameter "
        "(`benchmarks/contenders.py` counts them), and what a step takes of the time in which "
        "in-place adds of the same round would move that. Memory is the most that building the "
        "optimizer and three steps hold beside parameters and gradients, in bytes a parameter. "
        "*published* is a port of the HD optimizers as their authors wrote them. gdtuo has no step "
        "of its own: its time is a whole training step minus one without an optimizer. Rate-free "
        "and schedule-free optimizers are other algorithms, set beside the base update they start "
        "from; whether they train better is not asked here. The times of `Untuned` are those of "
        "results version 6: now its step takes 1.5 times as long with Adam and 1.4 with SGD on 8 "
        "million numbers, and 1.1 and 1.9 on eight small tensors (CPU time, in turn; LOG.md)."
    )
    head = ["base", "optimizer", "ms", "/ fused", *(f"{m}, / fused" for m in MODELS.values())]
    yield ""
    yield from table([*head, "floor", "/ floor", "memory"], list(peer_rows(rows)))
    adds = [row[ADD]["seconds"] for key, row in rows.items() if key.startswith("large: ")]
    if adds:
        speed = ADD_BYTES * count / statistics.median(adds) / 1e9
        yield from ("", f"The in-place add moved {speed:.1f} GB/s.")
    reasons = [
        f"- {c.kind}, {c.name}: {rows[key][c.name]['cannot_run']}"
        for c in CONTENDERS
        if "cannot_run" in rows.get(key := f"large: {c.kind}", {}).get(c.name, {})
    ]
    if reasons:
        yield from ("", "Could not run:", "", *reasons)


def peer_rows(rows: dict[str, Any]) -> Iterator[Sequence[str]]:
    for c in CONTENDERS:
        row = rows.get(f"large: {c.kind}", {}).get(c.name, {})
        if "ratio" not in row:
            yield [c.kind, c.name, *["cannot run" if row else "–"], *["–"] * 6]
            continue
        small = (rows.get(f"{m}: {c.kind}", {}).get(c.name, {}).get("ratio") for m in MODELS)
        peak = rows.get(f"memory: {c.kind}", {}).get(c.name)
        yield [
            c.kind,
            f"**{c.name}**" if c.family == "ours" else c.name,
            f"{row['seconds'] * 1e3:.3g}",
            f"{row['ratio']:.2f}",
            *("–" if ratio is None else f"{ratio:.2f}" for ratio in small),
            "–" if c.floor is None else str(c.floor),
            "–" if c.floor is None else f"{row['adds'] * ADD_BYTES / c.floor:.2f}",
            "–" if peak is None else f"{peak:.1f}",
        ]


def throughput(part: str, content: dict[str, Any], folder: Path, base: Path) -> Iterator[str]:
    rows = content["rows"]
    yield from ("## The throughput of a study", "", provenance(content, part))
    pictures.write(pictures.throughput(rows), folder / "throughput.png")
    yield from image("throughput", "Runs a minute of each way to run one grid", folder, base)
    yield (
        "One grid on MNIST logistic regression (`benchmarks/grid.toml`: SGD at six rates, SGD-HD "
        "at six initial rates times six hypergradient rates, batches of 128, an evaluation after "
        "each epoch), each way as one command from its start to its end, imports, reading the "
        "data and, for `hypergradient run`, tables, figures and report included. A setting that "
        "was trained twice counts once. The other ways have MNIST as tensors in memory, which is "
        "much faster than torchvision's data set. The losses say that the same was trained: "
        "medians over the settings of the last epoch's mean minibatch loss. With one epoch a run, "
        "what does not depend on epochs weighs most: imports, and our tables, figures and report."
    )
    ours = {
        end: rows.get(f"hypergradient run{end}", {}).get("runs_a_minute") for end in ("", SHORT)
    }
    yield ""
    yield from table(
        ["way", "seconds", "runs", "runs a minute", "ours is faster by", "median loss"],
        [
            throughput_row(name, row, ours[SHORT if name.endswith(SHORT) else ""])
            for name, row in rows.items()
        ],
    )
    reasons = [
        f"- {name}: {row['cannot_run']}" for name, row in rows.items() if "cannot_run" in row
    ]
    if reasons:
        yield from ("", "Could not run:", "", *reasons)


def throughput_row(name: str, row: dict[str, Any], ours: float | None) -> Sequence[str]:
    if "cannot_run" in row:
        return [name, "cannot run", *["–"] * 4]
    losses = [loss for loss in row["losses"].values() if loss is not None]
    return [
        name,
        f"{row['seconds']:.1f}",
        str(row["runs"]),
        f"{row['runs_a_minute']:.1f}",
        f"{ours / row['runs_a_minute']:.1f}x" if ours else "–",
        f"{statistics.median(losses):.4f}" if losses else "–",
    ]


def overhead(part: str, content: dict[str, Any], *_: Any) -> Iterator[str]:
    rows = content["rows"]
    yield from ("## What the harness costs, and how long a person waits", "")
    yield from (provenance(content, part), "")
    yield (
        "An epoch of SGD-HD on one thread. *bare* is a training loop with nothing but shuffling, "
        "minibatches, forward, backward and step; *epoch* is a tenth of a whole run of ten epochs "
        "by the harness, with losses, accuracies, rates and eleven evaluations, recorded in the "
        "store. The shares are of *epoch*: shuffling and gathering minibatches and the evaluations "
        "are work that any study does; *the harness* is all that is left over."
    )
    yield ""
    head = ["model", "images", "bare, s", "epoch, s", "epoch / bare", "minibatches", "evaluations"]
    ladders = {name: row for name, row in rows.items() if "bookkeeping" in row}
    yield from table(
        [*head, "the harness"],
        [
            [
                name,
                f"{row['examples']:,}",
                f"{row['seconds']['bare']:.3f}",
                f"{row['seconds']['epoch']:.3f}",
                f"{1 + row['over_bare']:.3f}",
                *(f"{100 * row[key]:.1f}%" for key in ("batches", "evaluations", "bookkeeping")),
            ]
            for name, row in ladders.items()
        ],
    )
    yield ""
    names = ["hypergradient demo", *STARTS]
    waits = {name: rows[name] for name in names if name in rows}
    yield from table(
        ["from the start of a fresh process to its end", "seconds"],
        [[f"`{name}`", waiting(row)] for name, row in waits.items()],
    )


def waiting(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.2f}" if "seconds" in row else f"cannot run: {row['cannot_run']}"


def growth(part: str, content: dict[str, Any], folder: Path, base: Path) -> Iterator[str]:
    rows = content["rows"]
    grid = (read("throughput", folder) or {"rows": {}})["rows"]
    yield from ("## How cost grows", "", provenance(content, part))
    pictures.write(pictures.growth(rows, grid), folder / "growth.png")
    yield from image("growth", "Cost over runs, parameters and workers", folder, base)
    yield (
        "Left, what commands take on a study of that many runs; these runs are synthetic (made up "
        "and written by the store, nobody trained them). `plan` includes half a second that "
        "measures steps; `collect` and `report` together are the command `report`. Middle, a step, "
        "all in 62 tensors. Right, the grid above with one and with two worker processes. Grey is "
        "proportional."
    )
    yield ""
    runs = {int(key[5:]): row for key, row in rows.items() if key.startswith("runs ")}
    commands = list(pictures.COMMANDS)
    yield from table(
        ["runs", *(f"{command}, s" for command in commands)],
        [[f"{n:,}", *(f"{row[c]:.3g}" for c in commands)] for n, row in runs.items()],
    )
    yield ""
    steps = {int(key[11:]): row for key, row in rows.items() if key.startswith("parameters ")}
    pairs = [(kind, name) for kind in ("SGD", "Adam") for name in ("torch fused", f"{kind}HD")]
    yield from table(
        ["parameters", *(f"{k}, {n}, ms" if "fused" in n else f"{n}, ms" for k, n in pairs)],
        [
            [f"{count:,}", *(f"{row[kind][name]['seconds'] * 1e3:.3g}" for kind, name in pairs)]
            for count, row in steps.items()
        ],
    )


def gpu_training(part: str, content: dict[str, Any], *_: Any) -> Iterator[str]:
    rows, card = content["rows"], content["made"]["settings"]["card"]
    yield from ("## Training steps on a GPU", "", provenance(content, part), "")
    yield (
        f"On {card}, in bfloat16 autocast: GPT-2 small on 8 sequences of 1024 tokens, ResNet-50 on "
        "64 images with the channels last. Milliseconds of a whole training step, and of the "
        "optimizer's own step after a backward pass; medians of interleaved rounds. `Untuned` took "
        "more than 170 launches a step then."
    )
    for model, row in rows.items():
        whole, alone = row["training step"], row["optimizer step"]
        yield from ("", f"**{model}**, {row['elements'] / 1e6:.1f} million parameters", "")
        yield from table(
            ["optimizer", "training step, ms", "its own step, ms"],
            [
                ["none", f"{whole['none']['ms']:.2f}", "–"],
                *(
                    [name, f"{whole[name]['ms']:.2f}", f"{own['ms']:.2f}"]
                    for name, own in alone.items()
                ),
            ],
        )


MANY = 100  # launches of a step before its numbers were one kernel each
LAUNCHES = 5  # that a step of `Untuned` makes beside the kernels that were measured alone
MEASURED = {"Adam": (36, 44, 1), "SGD": (28, 32, 8)}
"""Bytes a parameter before and since u_t is measured first, and the launches that this takes."""


def launched(row: dict[str, Any]) -> int:
    count: int = row.get("launches", {}).get("package", {}).get("kernels", 0)
    return count


def gpu_step(part: str, content: dict[str, Any], *_: Any) -> Iterator[str]:
    rows, made = dict(content["rows"]), content["made"]
    copy = rows.pop("copy")["GB/s"]
    yield from ("## A step on a GPU", "", provenance(content, part), "")
    yield (
        f"On {made['settings']['card']}, where a large copy moves {copy:,.0f} GB/s. Float32, by "
        "Triton kernels; medians of interleaved rounds between CUDA events. *bytes*: those that "
        "the exact algorithm must move, over those of torch's fused step. *captured*: both steps "
        "as CUDA graphs. *of the copy*: the bytes a second of our kernels, and of torch's fused "
        "step, relative to the copy's. *host*: until the step's launches have left the host."
    )
    head = ["optimizer", "ms", "/ fused", "bytes", "captured, / fused", "/ foreach"]
    head += ["of the copy, ours", "fused", "launches", "held, MB", "host, us", "fused's"]
    models = dict.fromkeys(key.split(": ")[0] for key in rows if not key.startswith("sweep"))
    for model in models:
        mine = {k: row for k, row in rows.items() if k.startswith(model) and "failed" not in row}
        count = max(row["elements"] for row in mine.values())
        yield from ("", f"**{model}**, {count / 1e6:.1f} million parameters", "")
        yield from table(head, [gpu_row(key.split(": ")[1], row) for key, row in mine.items()])
    before = {key: row for key, row in rows.items() if launched(row) > MANY}
    if before:
        yield from ("", *reasoned(before))


def reasoned(rows: dict[str, Any]) -> Iterator[str]:
    """What the table will say of `Untuned`, for which no GPU was at hand since it changed."""
    yield (
        "**Reasoned, not measured.** The rows of `Untuned` are of code that computed its rule by "
        "more than 170 launches of single numbers. Since then these are a few kernels, and a step "
        "is 9 launches, or some 16 with SGD. Of these 1 and 8 measure the direction before it "
        "moves: with Adam that reads the gradient and v once more, 44 bytes a parameter for 36, "
        "and with SGD the gradient, 32 for 28. "
        "`tests/gpu/test_launches.py` counts the launches, on a device that has no numbers. "
        "The same run measured the kernels without the rule. What is left of a captured step, "
        "divided by the number of those launches, is the time of one:"
    )
    yield ""
    head = ["captured", "kernels alone, / fused", "a launch, us", "a step now, / fused"]
    body = []
    for key, row in rows.items():
        ours, alone, fused = (row["graph"][name]["ms"] for name in ("package", "kernels", "fused"))
        copies = row["launches"]["package"]["copies"]
        more = launched(row) + copies - row["launches"]["kernels"]["kernels"]
        each = (ours - alone) / more
        before, since, measuring = MEASURED[key.split()[-1]]
        now = alone * since / before + (LAUNCHES + measuring) * each
        shares = (alone / fused, each * 1e3, now / fused)
        body.append([key.replace(": ", ", "), *(f"{share:.2f}" for share in shares)])
    yield from table(head, body)
    yield ""
    yield (
        "A kernel of a rule has some hundred operations in float64, one after another; the last "
        "column counts it as one launch. Without a graph the host is the limit: for 148 tensors "
        "it took 1.4 ms to ask each what it needs, and takes 0.5 ms where nothing but gradients "
        "has changed (on one core of an AMD EPYC, without the launches)."
    )


def gpu_row(name: str, row: dict[str, Any]) -> Sequence[str]:
    ours = "package" if "package" in row["step"] else "kernels"
    step, graph = row["step"], row.get("graph", {})
    captured = ours in graph and "fused" in graph
    shares = (row["share of copy"], row["share of copy, fused"])
    return [
        name,
        f"{step[ours]['ms']:.3f}",
        f"{step[ours]['ms'] / step['fused']['ms']:.2f}",
        f"{row['bytes'][0] / row['bytes'][1]:.2f}",
        f"{graph[ours]['ms'] / graph['fused']['ms']:.2f}" if captured else "–",
        f"{step[ours]['ms'] / step['foreach']['ms']:.2f}",
        *(f"{share:.0%}" for share in shares),
        str(row.get("launches", {}).get(ours, {}).get("kernels", "–")),
        f"{row['memory'][ours] / 1e6:.2f}" if "memory" in row else "–",
        *(f"{row['host us'][w]:.0f}" if "host us" in row else "–" for w in (ours, "fused")),
    ]
