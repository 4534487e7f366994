"""What is trained: a task is a data set, a model and a loss, under one name."""

from hypergradient.study.tasks.data.base import Data
from hypergradient.study.tasks.registry import TASKS
from hypergradient.study.tasks.task import Task

__all__ = ["TASKS", "Data", "Task"]
