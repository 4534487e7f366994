"""Triton's interpreter, without half of its time.

Before each kernel, and before each function that a kernel calls, it replaces the functions of
Triton's language by its own. It searches some hundred members of each module for them. Here it does
so once.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
from triton import language
from triton.runtime import interpreter


@contextmanager
def replaced_once() -> Iterator[None]:
    """Leave the language as it is where it has been replaced, and put it back at the end."""
    replace, scopes = interpreter._patch_lang, []

    def replace_once(function: FunctionType) -> Any:
        seen = [m for m in function.__globals__.values() if m in (language, language.core)]
        if any(language.core.is_builtin(module.load) for module in seen):
            scopes.append(replace(function))
        return SimpleNamespace(restore=lambda: None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", replace_once)
        yield
    for scope in reversed(scopes):
        scope.restore()
