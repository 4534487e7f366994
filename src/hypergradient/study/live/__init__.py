"""A page on this machine that shows a study's curves while its runs are trained."""
