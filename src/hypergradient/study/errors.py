"""The one error of the harness that is meant for the person at the keyboard, and others' errors."""

from __future__ import annotations


class StudyError(Exception):
    """Something that the person at the keyboard can put right; its text says what and how."""


OWN_CODE_RAISES = (Exception, SystemExit)
"""What a person's own task, optimizer or function may raise. ``sys.exit`` in it is an error of that
code like any other: it must not end a command that has more to do."""


def as_one_line(error: BaseException) -> str:
    """Return an error's kind and text as one line of at most 1000 printable characters."""
    try:
        text = str(error)
    except Exception as other:  # noqa: BLE001  (the text is made by a person's code too)
        text = f"its text raises {type(other).__name__}"
    return one_line(f"{type(error).__name__}: {text}")


LONGEST = 1000
"""The most characters of a message."""


def printable(text: str) -> str:
    """Return a text with all but its line ends made printable.

    Names in studies and texts of errors may hold escapes, which a terminal would obey.
    """
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def one_line(text: str) -> str:
    """Return any text as one line that a terminal can show, cut where it is long."""
    cut = text[: 2 * LONGEST]
    shown = printable(" ".join(cut.split()))
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]} ..."
