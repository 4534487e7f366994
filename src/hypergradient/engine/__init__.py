"""The engine of the hypergradient optimizers, and its fast lanes."""
