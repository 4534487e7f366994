"""The landscape lab: its descents are Fischer's, step by step, and it says what is wrong."""

import math
import sys

import polars as pl
import pytest
import torch

from hypergradient.functions import FUNCTIONS
from hypergradient.study import cli
from hypergradient.study.errors import StudyError
from hypergradient.study.import_by_name import import_object
from hypergradient.study.landscape import figures, functions, lab, search, tabulate
from hypergradient.study.landscape.descend import Descents, descend
from hypergradient.study.landscape.methods import DEFAULT, METHODS, PUBLISHED, Setting, find_methods

BEALE = FUNCTIONS["beale"]
SHARED = [name for name in METHODS if name.endswith("global")]
SETTINGS = PUBLISHED | {name: Setting(1e-3, 1e-6) for name in SHARED}
STEPS = 500


def beale_gradient(x, y):
    a, b, c = 1.5 - x + x * y, 2.25 - x + x * y**2, 2.625 - x + x * y**3
    dx = 2 * a * (y - 1) + 2 * b * (y**2 - 1) + 2 * c * (y**3 - 1)
    dy = 2 * a * x + 2 * b * 2 * x * y + 2 * c * 3 * x * y**2
    return dx, dy


def as_published(name, eta, alpha, steps):
    """The post's code, one number at a time: x, y, eta_x and eta_y after each step."""
    x, y, eta_x, eta_y = -2.0, -1.0, eta, eta
    dx_old = dy_old = velocity_x = velocity_y = m_x = m_y = v_x = v_y = 0.0
    gamma, beta_1, beta_2, epsilon = 0.5, 0.9, 0.99, 1e-8
    rows = [(x, y, eta_x, eta_y)]
    for i in range(steps):
        if name.startswith("nag"):
            dx, dy = beale_gradient(x - gamma * velocity_x, y - gamma * velocity_y)
        else:
            dx, dy = beale_gradient(x, y)
        if name.endswith("global"):
            eta_x = eta_y = eta_x + alpha * (dx * dx_old + dy * dy_old) / 2
        else:
            eta_x += alpha * dx * dx_old
            eta_y += alpha * dy * dy_old
        if name.startswith("adam"):
            m_x, m_y = (beta_1 * m_x + (1 - beta_1) * dx, beta_1 * m_y + (1 - beta_1) * dy)
            v_x, v_y = (beta_2 * v_x + (1 - beta_2) * dx**2, beta_2 * v_y + (1 - beta_2) * dy**2)
            m_hat, v_hat = 1 - beta_1 ** (i + 1), 1 - beta_2 ** (i + 1)
            x -= (eta_x / (math.sqrt(v_x / v_hat) + epsilon)) * m_x / m_hat
            y -= (eta_y / (math.sqrt(v_y / v_hat) + epsilon)) * m_y / m_hat
        elif name.startswith(("gdm", "nag")):
            velocity_x = gamma * velocity_x + eta_x * dx
            velocity_y = gamma * velocity_y + eta_y * dy
            x -= velocity_x
            y -= velocity_y
        else:
            x -= eta_x * dx
            y -= eta_y * dy
        dx_old, dy_old = dx, dy
        rows.append((x, y, eta_x, eta_y))
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_step_is_the_published_algorithm(name):
    setting = SETTINGS[name]
    ours = descend(BEALE, METHODS[name], [setting], STEPS)
    both = torch.cat([ours.points[:, 0], ours.rates[:, 0]], dim=1)
    assert len(both) > 0.9 * STEPS  # GD+ is there, to 1e-6, a few steps earlier
    theirs = as_published(name, setting.lr, setting.hypergrad_lr, len(both) - 1)
    assert (both - theirs).abs().max() < 1e-10


def test_the_published_numbers():
    adaptive = descend(BEALE, METHODS["gd+"], [PUBLISHED["gd+"]], STEPS)
    assert [adaptive.steps_to(tolerance) for tolerance in tabulate.TOLERANCES] == [
        [63],
        [151],
        [291],
    ]
    assert adaptive.rates[-1, 0].tolist() == pytest.approx([0.131964, 0.0343585], rel=3e-6)
    constant = descend(BEALE, METHODS["gd"], [PUBLISHED["gd"]], STEPS)
    assert constant.steps_to(0.1) == [500]


@pytest.mark.parametrize(
    "name", ["gd+", "nag+ global", "adam+", "gdm", "gdm hdm", "gdm hdm momentum"]
)
def test_settings_side_by_side_do_not_touch_each_other(name):
    """Not even one that diverges at once."""
    alphas = [0.0] if METHODS[name].kind == "constant" else [1e-5, 1e-7]
    settings = [Setting(eta, alpha) for eta in (1e-2, 10.0, 1e-3) for alpha in alphas]
    together = descend(BEALE, METHODS[name], settings, 60)
    assert not together.points[-1].isfinite().all()
    for i, setting in enumerate(settings):
        alone = descend(BEALE, METHODS[name], [setting], 60)
        steps = len(alone.points)
        assert torch.equal(together.points[:steps, i].nan_to_num(), alone.points[:, 0].nan_to_num())
        assert torch.equal(together.rates[:steps, i].nan_to_num(), alone.rates[:, 0].nan_to_num())
        if alone.momenta is not None:
            assert torch.equal(together.momenta[:steps, i], alone.momenta[:, 0])


def test_a_momentum_that_learns_is_in_the_table_and_drawn(monkeypatch):
    monkeypatch.setattr(search, "STEPS", 200)
    names = ["gdm", "gdm hdm momentum"]
    landscape = lab.explore("quadratic", FUNCTIONS["quadratic"], names, 60, searched=True)
    fixed, learned = (descent.path for descent in landscape.descents)
    assert fixed.momenta is None
    momenta = learned.momenta[:, 0]
    assert momenta[0] == 0.5
    assert momenta.unique().numel() > 10
    assert learned.distances[-1, 0] < fixed.distances[-1, 0]
    table = tabulate.steps(landscape)
    own = table.filter(method="GDM hdm momentum")["momentum"].to_list()
    assert own == momenta.tolist()
    assert table.filter(method="GDM")["momentum"].null_count() == len(fixed.points)
    (axes,) = figures.draw_momenta(landscape).axes
    assert [list(line.get_ydata()) for line in axes.lines] == [momenta.tolist()]


def test_a_descent_ends_when_there_is_nothing_left_to_show():
    close = descend(FUNCTIONS["booth"], METHODS["gd"], [Setting(0.1)], 1000)
    assert len(close.points) < 1000
    assert close.distances[-1] <= 1e-6 < close.distances[-2]
    still = descend(FUNCTIONS["rastrigin"], METHODS["gd"], [Setting(1e-3)], 5000)
    assert len(still.points) < 5000
    assert still.distances[-1] > 1


def test_first_arrival_and_arrival_for_good():
    nan = math.nan
    columns = [[3.0, 0.5, 2.0, 0.5, 0.1], [3.0, 2.0, 0.5, nan, nan], [0.1, 0.1, 0.1, 0.1, 0.1]]
    distances = torch.tensor([*columns, [9.0] * 5]).T
    descents = Descents(torch.zeros(5, 4, 2), torch.zeros(5, 4, 2), distances)
    assert descents.steps_to(1.0) == [1, 2, 0, None]
    assert descents.settled(1.0, 9) == [3, None, 0, None]
    assert descents.settled(1.0, 1) == [3, None, 0, None]
    assert descents.settled(1.0, 0) == [1, 2, 0, None]


def test_every_method_may_try_as_many_settings():
    for function in FUNCTIONS.values():
        grids = {name: search.grid(function, METHODS[name]) for name in METHODS}
        assert {len(set(settings)) for settings in grids.values()} == {search.DECADES**2}
    grid = search.grid(BEALE, METHODS["gd+"])
    assert {PUBLISHED["gd+"], PUBLISHED["gdm+"]} <= set(grid)
    assert {PUBLISHED["nag+"].hypergrad_lr, PUBLISHED["adam+"].hypergrad_lr} <= {
        one.hypergrad_lr for one in grid
    }


def test_the_search_finds_the_fastest():
    """On a parabola of curvature 1 and 100, the best constant rate is 2 / 101."""
    tried = search.search(FUNCTIONS["quadratic"], METHODS["gd"])
    found = search.best(tried)
    assert found.setting.lr == pytest.approx(2 / 101, rel=0.2)
    assert found.steps == min(one.steps for one in tried if one.steps is not None)
    assert sum(one.steps is None for one in tried) > 5
    never = [search.Tried(Setting(eta), None, end) for eta, end in ((1, 0.5), (2, math.nan))]
    assert search.best(never[::-1]) is never[0]


def test_tables_hold_what_was_done():
    seen = lab.explore("beale", BEALE, ["gd", "gd+"], 200, searched=False)
    steps = tabulate.steps(seen)
    assert steps.group_by("method").len().sort("method").rows() == [("GD", 201), ("GD+", 201)]
    row = tabulate.summary([seen]).row(1, named=True)
    assert (row["steps_to_0.1"], row["steps_to_0.01"], row["steps_to_0.001"]) == (63, 151, None)
    last = steps.filter(method="GD+").row(-1, named=True)
    assert row["final_distance"] == last["distance"]
    assert (row["final_lr_x"], row["final_lr_y"]) == (last["rate_x"], last["rate_y"])


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A person's module in the folder they work in."""
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def bowl(x, y): return (x - 1.25) ** 2 + torch.cosh(y + 0.5)\n"
        "def root(x, y): return torch.sqrt(x) + y**2\n"
        "def whole(x, y): return (x**2 + y**2).sum()\n"
        "def crash(x, y): raise RuntimeError('no\\nway')\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    import_object.cache_clear()
    yield
    sys.modules.pop("mine", None)
    import_object.cache_clear()


@pytest.mark.usefixtures("own")
def test_ones_own_function_and_its_minimum():
    found = functions.find_function("mine:bowl", (-2.0, -2.0), (-3.0, 3.0, -3.0, 3.0))
    assert found.minima[0] == pytest.approx((1.25, -0.5), abs=1e-9)
    assert functions.find_function("mine.py:bowl", (0.0, 0.0), (-1.0, 3.0, -3.0, 3.0)).start == (
        0.0,
        0.0,
    )


HERE = ["--start", "0", "0", "--box", "-1", "1", "-1", "1"]
BAD = {
    "close-name": (["beal"], "no function 'beal': did you mean beale?"),
    "far-name": (["zzz"], "choose from beale, rosenbrock"),
    "method": (["--methods", "gd,gdd+"], "no method 'gdd+': did you mean gd"),
    "excluded": (["--box", "0", "1", "0", "1"], "[0, 1] x [0, 1] excludes the start (-2, -1)"),
    "empty-box": (["--box", "1", "0", "0", "1"], "is empty: low must be below high"),
    "nan": (["--start", "nan", "0"], "must be finite numbers"),
    "steep": (["mine:root", *HERE], "no finite gradient at its start (0, 0): (inf, 0)"),
    "sum": (["mine:whole", *HERE], "is not elementwise: 4 points give ()"),
    "crash": (["mine:crash", *HERE], "RuntimeError: no way"),
    "number": (["mine:number", *HERE], "is 3, not a function of x and y"),
    "nothing": (["mine:nothing", *HERE], "there is no nothing in mine"),
    "no-module": (["nowhere:f", *HERE], "cannot import nowhere"),
    "no-start": (["mine:bowl"], "give --start and --box"),
    "no-folder": (["--out", "/proc/here"], "cannot write to /proc/here"),
}


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("arguments", "said"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hypergradient", "landscape", *arguments])
    monkeypatch.setattr(lab, "explore", lambda *_, **__: pytest.fail("descends"))
    with pytest.raises(SystemExit) as end:
        cli.main()
    complaint = capsys.readouterr().err
    assert end.value.code == 2
    assert said in complaint
    assert len(complaint.splitlines()) == 1


def test_names_of_methods():
    assert find_methods("GD+,  gd+ Global ,gd+") == ["gd+", "gd+ global"]
    assert set(DEFAULT) == set(PUBLISHED)
    with pytest.raises(StudyError, match="no method ''"):
        find_methods("")


def test_files_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "STEPS", 200)
    page = lab.visit(["booth"], "gd,adam+", 50, False, None, None, tmp_path, lambda _: None)
    assert page == tmp_path / "landscape.html"
    for stem in ("paths", "distance", "rates", "search"):
        for suffix in ("png", "pdf", "csv"):
            assert (tmp_path / "figures" / f"booth-{stem}.{suffix}").stat().st_size > 100
    tried = pl.read_csv(tmp_path / "figures" / "booth-search.csv")
    assert tried.group_by("method").len().sort("method").rows() == [("Adam+", 36), ("GD", 36)]
    assert pl.read_csv(tmp_path / "summary.csv")["function"].to_list() == ["Booth", "Booth"]
