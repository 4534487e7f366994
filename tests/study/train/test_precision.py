"""Runs that compute in bfloat16, and runs whose images have the channels last."""

import pytest
import torch
from test_devices import images

from hypergradient.study.declare.load import load_study
from hypergradient.study.declare.run import Run
from hypergradient.study.errors import StudyError
from hypergradient.study.train.ensemble import Ensemble
from hypergradient.study.train.start import start_session

FIELDS = {"seed": 0, "study_seed": 0, "epochs": 2, "batch_size": 4, "weight_decay": 0.0}


def run_of(task="cifar10-resnet18-narrow", method="SGDN-HD", **options):
    return Run(task=task, method=method, hyper={"lr": 0.01}, **FIELDS, **options)


def trained(run, data):
    """The session of a run after it, and the losses of its epochs."""
    session = start_session([run], data)
    seen = []

    def look(_, inputs, outputs):
        seen.append((inputs[0], outputs))

    first = next(m for m in session.model.modules() if isinstance(m, torch.nn.Conv2d))
    first.register_forward_hook(look)
    return session, [each.record.valid_loss for each in session.train(lambda _: None)], seen


def test_a_model_computes_in_bfloat16_and_keeps_its_weights_in_float32():
    data = images(3, 32, 32)
    plain, losses, _ = trained(run_of(), data)
    session, narrow, seen = trained(run_of(autocast="bfloat16"), data)
    assert {outputs.dtype for _, outputs in seen} == {torch.bfloat16}  # evaluations, too
    assert {p.dtype for p in session.model.parameters()} == {torch.float32}
    states = [t for state in session.optimizer.state.values() for t in state.values()]
    assert {t.dtype for t in states if t.dim()} == {torch.float32}
    assert narrow != losses
    assert narrow == pytest.approx(losses, rel=0.1)
    assert plain.init_hash == session.init_hash


def test_channels_come_last_in_weights_and_images():
    data = images(3, 32, 32)
    session, _, seen = trained(run_of(channels_last=True), data)
    for inputs, _ in seen:
        assert inputs.is_contiguous(memory_format=torch.channels_last)
    session, plain = (start_session([run_of(channels_last=last)], data) for last in (True, False))
    for each in (session, plain):
        each.make_step()
        each.make_step()
    for p, q in zip(session.model.parameters(), plain.model.parameters(), strict=True):
        if p.dim() == 4:
            assert p.is_contiguous(memory_format=torch.channels_last)
            assert p.stride() == p.grad.stride()
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


def test_such_a_run_goes_on_where_it_was():
    data, run = images(3, 32, 32), run_of(autocast="bfloat16", channels_last=True)
    whole = [each.record.train_loss for each in start_session([run], data).train(lambda _: None)]
    session = start_session([run], data)
    session.make_step()
    (saved,) = session.states().values()
    resumed = start_session([run], data, [saved])
    rest = [each.record.train_loss for each in resumed.train(lambda _: None)]
    assert rest == whole[1:]


def test_they_are_trained_alone():
    data = images(64)
    assert isinstance(start_session([run_of("digits-mlp")], data), Ensemble)
    for options in ({"autocast": "bfloat16"}, {"channels_last": True}):
        assert not isinstance(start_session([run_of("digits-mlp", **options)], data), Ensemble)


def test_a_study_says_so(study_file):
    path = study_file()
    plain = load_study(path).runs()
    text = path.read_text()
    path.write_text('autocast = "bfloat16"\nchannels_last = true\n' + text)
    runs = load_study(path).runs()
    assert {(run.autocast, run.channels_last) for run in runs} == {("bfloat16", True)}
    assert not {run.id for run in runs} & {run.id for run in plain}
    path.write_text('autocast = "float16"\n' + text)
    with pytest.raises(StudyError, match="autocast: Input should be"):
        load_study(path)
