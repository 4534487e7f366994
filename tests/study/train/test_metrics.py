"""Law: what is noted for many steps at once is what was seen at each."""

import io

import pytest
import torch

from hypergradient import SGDHD
from hypergradient.study.train import metrics as notes
from hypergradient.study.train.metrics import MetricBuffer

STEPS, BATCH = 7, 5
KINDS = {
    "classes": lambda: (torch.randint(0, 4, (33,)), (4,)),  # the last batch is short
    "classes of parts": lambda: (torch.randint(0, 4, (33, 3)), (4, 3)),
    "numbers": lambda: (torch.randn(33, 2), (2,)),
}


def steps_of(kind, granularity):
    """The targets, and what each step gives: loss, outputs, optimizer."""
    torch.manual_seed(1)
    targets, shape = KINDS[kind]()
    params = [torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)]
    optimizer = SGDHD(params, lr=0.1, hypergrad_lr=0.1, granularity=granularity)

    def steps():
        for batch in targets.split(BATCH):
            optimizer.zero_grad()
            loss = sum((p - 1).square().sum() for p in params)
            loss.backward()
            optimizer.step()
            outputs = torch.randn(len(batch), *shape, requires_grad=True).round(decimals=1)
            yield loss, outputs, optimizer

    return targets, steps()


@pytest.mark.parametrize("limits", [(512, 1 << 18), (3, 1 << 18), (512, 50)])
@pytest.mark.parametrize("granularity", ["group", "tensor", "element"])
@pytest.mark.parametrize("kind", KINDS)
def test_notes_are_of_what_was_seen(kind, granularity, limits, monkeypatch):
    monkeypatch.setattr(notes, "MOST_STEPS", limits[0])
    monkeypatch.setattr(notes, "MOST_NUMBERS", limits[1])
    targets, steps = steps_of(kind, granularity)
    kept, losses, rates, answers = MetricBuffer(STEPS, targets), [], [], []
    for made, (loss, outputs, optimizer) in enumerate(steps, 1):
        kept.add(loss, outputs, optimizer)
        summary = optimizer.lr_summary()
        losses.append(loss.item())
        rates.append((summary["min"], summary["max"]))
        answers += outputs.argmax(1).tolist() if kind != "numbers" else []
        if made == 4:  # a process ends, and another goes on
            file = io.BytesIO()
            torch.save(kept.state(), file)
            file.seek(0)
            kept = MetricBuffer(STEPS, targets)
            kept.restore(torch.load(file), made, made * BATCH)
    assert kept.losses.tolist() == losses
    assert kept.rates[:, 1:].tolist() == torch.tensor(rates).tolist()
    between = (kept.rates[:, 1] <= kept.rates[:, 0]) & (kept.rates[:, 0] <= kept.rates[:, 2])
    assert between.all()
    assert kept.predictions.tolist() == answers
    assert not any(t.requires_grad for t in (kept.losses, kept.rates, kept.predictions))


def test_rates_no_float32_can_hold_are_noted_as_infinite():
    p = torch.zeros(1, requires_grad=True)
    kept = MetricBuffer(1, torch.zeros(1))
    kept.add(torch.zeros(()), torch.zeros(1), torch.optim.SGD([p], lr=1e39))
    assert kept.rates.tolist() == [[torch.inf] * 3]


@pytest.mark.parametrize("of_model", ["the last of many", "a bias"])
def test_outputs_that_are_views_hold_no_memory_and_stay_as_they_were(of_model):
    targets, bias = torch.tensor([1, 1, 0, 0]), torch.zeros(2)
    kept, optimizer = MetricBuffer(2, targets), torch.optim.SGD([torch.zeros(1)], lr=0.1)
    for best in (1, 0):
        if of_model == "a bias":
            bias.copy_(torch.eye(2)[best])  # the same memory again
            outputs = bias.expand(2, 2)
        else:
            outputs = torch.eye(2)[best].expand(2, 1000, 2).clone()[:, -1]
        kept.add(torch.zeros(()), outputs, optimizer)
    held = sum(outputs.untyped_storage().nbytes() for *_, outputs in kept._pending)
    assert held <= 2 * 4 * 4
    assert kept.predictions.tolist() == targets.tolist()
