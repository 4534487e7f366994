"""The optimizers and bases that users import, one file a family."""
