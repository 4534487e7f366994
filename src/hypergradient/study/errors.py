"""The one error of the harness that is meant for the person at the keyboard."""


class StudyError(Exception):
    """Something that the person at the keyboard can put right; its text says what and how."""
