"""Functions that are linked into compiled code, and have none of their own."""

import numpy as np
import pytest

from ste_lightning.kernels.jit.compiling import compiled, inlined, nested


@nested
def doubled(x):
    return 2 * x


@inlined
def tripled(x):
    return 3 * x


@compiled
def six_times(x):
    return doubled(tripled(x))


def test_python_cannot_call_them_before_or_after_they_are_compiled():
    for _ in range(2):
        for function in (doubled, tripled):
            with pytest.raises(TypeError, match="compiled code alone can call it"):
                function(np.int64(7))
        assert six_times(np.int64(7)) == 42
