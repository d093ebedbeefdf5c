"""Compilation with numba: cached on disk where the disk allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.extending import intrinsic as _intrinsic

from ste_lightning.kernels.jit.code_cache import kept_between_processes

__all__ = ["WITHOUT_COUNTING", "compiled", "emitted", "inlined", "nested", "spliced"]


class _Nested(JITCodeLibrary):
    """The code of a function that only other compiled code calls: linked, and nothing else.

    numba optimizes a function and makes machine code of it before it is linked into its callers,
    which are then optimized with all of it again: four times for what lies four calls deep.
    """

    def finalize(self) -> None:
        """Link what the function calls."""
        for library in dict.fromkeys(self._linking_libraries):
            if hasattr(self, "_reload_init"):  # numba 0.61 has none
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def get_pointer_to_function(self, name: str) -> int:
        """Return null: there is no machine code."""
        self._ensure_finalized()  # type: ignore[no-untyped-call]
        return 0

    @property
    def codegen(self) -> Any:
        """Return who is told where the function's environment is: nobody, nothing is loaded."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing."""


class _NestedCompiler(CompilerBase):
    def define_pipelines(self) -> list[Any]:
        """Return numba's own passes, with another library to write to."""
        state = self.state
        library: Any = _Nested
        state.library = library(state.targetctx.codegen(), state.func_id.func_qualname)
        passes: Any = DefaultPassBuilder
        return [passes.define_nopython_pipeline(state)]


_NESTED: Any = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": _NestedCompiler,
}
WITHOUT_COUNTING: Any = {**_NESTED, "forceinline": True, "_nrt": False}


def _never_from_python(function: Any) -> Callable[..., Any]:
    """Return a function of numba that Python refuses to call: it has no machine code to jump to."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{function.__name__} is nested: compiled code alone can call it")

    def keep(result: Any) -> None:  # numba would also enter it among what Python can call
        function.overloads[tuple(result.signature.args)] = result

    function._compile_for_args, function.add_overload = refuse, keep
    called: Callable[..., Any] = function
    return called


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` with numba, without the GIL, cached between processes if possible."""
    with kept_between_processes(function) as kept:
        return numba.njit(function, nogil=True, cache=kept, error_model="numpy")  # type: ignore[no-any-return]


def nested(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of its callers, all of which are compiled code."""
    return _never_from_python(numba.njit(function, nogil=True, **_NESTED))


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile ``function`` as a part of its callers, without counting references of arrays.

    Otherwise every call counts references of all arrays it passes: more time than a small tile
    of work takes. Such a function can neither make arrays nor return them.
    """
    return _never_from_python(numba.njit(function, nogil=True, **WITHOUT_COUNTING))


def spliced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Put the code of ``function`` into its callers before they are compiled.

    :func:`inlined` puts in machine code that cannot make arrays; here no call is left at all, and
    each place that calls it compiles the code anew.
    """
    return numba.njit(function, nogil=True, error_model="numpy", inline="always")  # type: ignore[no-any-return]


def emitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark ``function`` as one that emits LLVM code (a typed name for numba's ``intrinsic``)."""
    intrinsic: Callable[..., Any] = _intrinsic(function)
    return intrinsic
