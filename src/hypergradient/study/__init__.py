"""The study harness: tasks x methods x grids x seeds, trained resumably and turned into tables.

Data flows through the modules in this order: ``spec`` (what to run), ``data``, ``tasks``,
``models`` and ``methods`` (names to things), ``train`` (one run to records), ``store`` (records on
disk), ``execute`` (missing runs to workers), ``analyse`` (records to tables), then the figures and
the report.
Nothing here is imported by the optimizers.
"""


class StudyError(Exception):
    """Something that the person at the keyboard can put right; its text says what and how."""
