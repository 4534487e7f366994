"""The step that all optimizers share (`optimizer.py`): base x trace x rule x iterate."""
