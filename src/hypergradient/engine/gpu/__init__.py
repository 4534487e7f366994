"""A step in two passes over memory by Triton kernels: the lane for CUDA tensors.

It mirrors the lane of the C function. The visit reads every gradient once: it sums <g_t, u_{t-1}>
and advances the states from u_{t-1} to u_t. Then the learning rates move. Then the descent
subtracts alpha_t u_t from theta. That is three launches for all tensors of a model, and the host
reads nothing back: learning rates, step counts and bias corrections stay on the device. So a step
may be captured in a CUDA graph.

An engine uses it as follows (`StepKernels` in step.py; `AverageKernels` in average.py for
`Untuned`, with `descend` and `move_rate` alone):

    kernels = StepKernels(device)          one for each optimizer and device; it keeps tables
    kernels.load(params, rates)            each step: a `Operands` a parameter, a `RateStep` a rate
    kernels.visit()                        sums, states
    kernels.move_rates()                   alpha_t = rule(alpha_{t-1}, h_t); step counts += 1
    kernels.descend()                      theta_t = theta_{t-1} - alpha_t u_t

A base is a `Recipe` (recipes.py) of how the states a and b advance:

    SGD             first (1, 0, 0): a is u_t, the gradient
    momentum        first (1 - dampening, mu, 0), and (1, mu, 0) at the first step: a is the buffer
    Nesterov        first (1 + mu, 0, mu^2), second (1, mu): a is u_t, and b the buffer
    Adam, AdamW     first (1 - beta1, beta1, 0), second (1 - beta2, beta2), and betas, eps, decay

With `descends` off, theta and the step count are left to others, and `visit` only writes a and b.

`takes` in device.py says whether a parameter is for the kernels. Where ranks share a rate, call
`sums()` after the visit, add the ranks' sums, and give them to `move_rates`.

The tables (tables.py) are tensors on the device: one row of int64 a parameter (size, recipe, and
the addresses of gradient, theta, states, rate and step count), one row a rate, float64 numbers a
recipe, and one row of int32 a chunk of a parameter. They are uploaded again only when an address or
an option has changed. Before a capture there must have been a step of the same parameters.

Sums have a fixed order, so reruns are equal bit by bit: each chunk writes its own partial sum, in
float32, and one program for each rate adds these in float64. Divisions and square roots round as
IEEE 754 says. Products may be contracted to fused multiply-adds.

Other functions of a few numbers are one kernel each: the rules that `move_rates` does not know,
what an average prepares for a step, and hypergradients of sums. Their kernels are written from the
functions themselves (formula.py, formula_kernels.py), so no rule is defined twice. A step of
`Untuned` is 9 launches, or 8 with SGD, however many tensors it moves.

Nothing here imports Triton before a `StepKernels` is made; `usable` in device.py says whether that
can be. HYPERGRADIENT_TRITON=0 in the environment turns the lane off.
"""
