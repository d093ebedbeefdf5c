"""A C program that compares a network with what it gave here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ste_lightning.deploy.export.c.program import c_float
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.deploy.graph.sample import arguments

__all__ = ["self_test"]

_PROGRAM = """/* Runs {name} on recorded inputs and compares it with the recorded outputs. */
#include <math.h>
#include <stdio.h>

#include "{header}"

#define SAMPLES {samples}

static const float inputs[SAMPLES][{upper}_INPUT] = {{
{inputs}
}};

static const float outputs[SAMPLES][{upper}_OUTPUT] = {{
{outputs}
}};

int main(void)
{{
    float largest = 0;
    int wrong = 0;
    for (int i = 0; i < SAMPLES; ++i) {{
        float output[{upper}_OUTPUT];
        {name}(inputs[i], output);
        for (int k = 0; k < {upper}_OUTPUT; ++k) {{
            const float difference = fabsf(output[k] - outputs[i][k]);
            const float size = fabsf(outputs[i][k]) > 1 ? fabsf(outputs[i][k]) : 1;
            largest = difference > largest ? difference : largest;
            wrong += !(difference <= 1e-5f * size);
        }}
    }}
    printf("%d samples, %d numbers differ, largest difference %g\\n", SAMPLES, wrong,
           (double)largest);
    return wrong != 0;
}}
"""


def self_test(name: str, header: str, network: PackedNetwork, example: Any, most: int) -> str:
    """Return the program.

    Args:
        name: of the network in C.
        header: its header file.
        network: what to compare with.
        example: inputs, of which the first ones are recorded.
        most: how many at most.
    """
    args, kwargs = arguments(example)
    (x,) = network.inputs(args, kwargs)
    with torch.no_grad():
        found = [(one, network(one)) for one in x[:most].unsqueeze(1)]
    return _PROGRAM.format(
        name=name,
        header=header,
        upper=name.upper(),
        samples=len(found),
        inputs=_rows([x for x, _ in found]),
        outputs=_rows([y for _, y in found]),
    )


def _rows(tensors: list[Tensor]) -> str:
    return ",\n".join("    {" + _numbers(t.flatten().tolist()) + "}" for t in tensors)


def _numbers(values: list[float]) -> str:
    texts = list(map(c_float, values))
    return ",\n     ".join(", ".join(texts[i : i + 8]) for i in range(0, len(texts), 8))
