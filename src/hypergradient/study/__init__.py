"""The study harness: tasks x methods x grids x seeds, trained resumably and turned into tables.

Each folder is one stage through which data flow, and imports only those to its left:

    tasks -> methods -> declare -> train -> run -> results -> figures -> report

``tasks`` and ``methods`` give names to what is trained. ``declare`` reads a TOML file and expands
it into runs, each a value. ``train`` turns a run into records and touches no file. ``run`` gives
missing runs to workers and keeps their records on disk. ``results`` computes tables from records,
``figures`` draws them, and ``report`` puts them on a page. ``landscape`` is a lab of its own for
functions of two variables. The optimizers never import any of this.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hypergradient.study.comparison.compare import Comparison, compare
    from hypergradient.study.errors import StudyError
    from hypergradient.study.tasks.data.base import Data
    from hypergradient.study.tasks.task import Task

__all__ = ["Comparison", "Data", "StudyError", "Task", "compare"]

_PLACES = {
    "Comparison": "hypergradient.study.comparison.compare",
    "compare": "hypergradient.study.comparison.compare",
    "Data": "hypergradient.study.tasks.data.base",
    "StudyError": "hypergradient.study.errors",
    "Task": "hypergradient.study.tasks.task",
}


def __getattr__(name: str) -> Any:
    """Import one of ``__all__`` when it is first asked for: the command line must start quickly."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
