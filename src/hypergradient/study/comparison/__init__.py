"""``hypergradient compare``: a person's own task, on which optimizers meet a tuned AdamW.

A comparison is an ordinary study. ``declaration`` writes its file, from what a person's file says
of the task, and the harness runs it. So it resumes, and has tables, figures and a page.
"""
