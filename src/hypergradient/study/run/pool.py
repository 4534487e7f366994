"""The interface of a pool: what ``execute`` asks of workers, wherever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypergradient.study.declare.run import Run


class Pool(Protocol):
    """Workers of one command. ``execute`` makes one, and stops it when all runs are finished."""

    def keep_busy(self, unfinished: Sequence[Run]) -> None:
        """Give work to workers that have none. ``execute`` calls this several times a second.

        Args:
            unfinished: The runs that are not finished; some are being trained.

        Raises:
            StudyError: The workers cannot work.
        """

    def stop(self) -> None:
        """End the workers. The runs that they are training stay unfinished, and can be resumed."""
