"""The landscape lab: optimizers on functions of two variables, to see how hypergradients work.

Data flow through the modules in this order: ``functions`` (names to functions), ``methods`` (names
to optimizers and their settings), ``descend`` (one method from one start, many settings at once),
``search`` (a grid of settings to the best), ``results`` (what was computed of one function),
``tabulate`` (results to tables), then ``figures`` and ``page``; ``lab`` puts
them together for the command ``hypergradient landscape``.
"""
