"""The files of a network in C: a header, a source, and a program that tests them."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from ste_lightning.deploy.export.c.frozen import Frozen, frozen
from ste_lightning.deploy.export.c.lowering import lowered
from ste_lightning.deploy.export.c.memory import Memory, placed
from ste_lightning.deploy.export.c.program import Program, c_name
from ste_lightning.deploy.export.c.self_test import self_test
from ste_lightning.deploy.graph.network import PackedNetwork
from ste_lightning.errors import require

__all__ = ["source_names", "write_c"]

_KERNELS = """
base ones sign_sums step_sums level_patch code_sums depthwise_sums token_levels float_patch
float_sums mixed_sums sums_to_floats tokens_to_floats scaled_floats sums_to_bits sums_to_codes
floats_to_bits floats_to_flags floats_to_codes pool_bits pool_codes max_pool average_pool
adaptive_pool softmax reduce layer_norm permute pad_image
"""
_ORDER = _KERNELS.split()
_WORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int
long main memory register restrict return shape short signed sizeof static struct switch threshold
typedef union unsigned void volatile while
"""
_COMPILERS = """#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#define restrict /* GCC 12 at -O3 reads too early where functions of such pointers meet */
#endif
"""
_TAKEN = frozenset([*_WORDS.split(), *_ORDER, *dir(math)])
_RECORDED = 1 << 16  # numbers, at most, but for one sample


def source_names(path: str | Path) -> tuple[str, list[str]]:
    """Return the network's name in C, and the names of its files.

    Args:
        path: of the source file, ``NAME.c``; the others lie beside it.
    """
    stem = Path(path).stem
    name = c_name(stem)
    return f"network_{name}" if name in _TAKEN else name, [
        f"{stem}.h",
        f"{stem}.c",
        f"{stem}_main.c",
    ]


def write_c(network: PackedNetwork, path: Path, example: Any) -> None:
    """Write a captured network as C99.

    Args:
        network: which.
        path: of the source file ``NAME.c``; ``NAME.h`` and ``NAME_main.c`` are written beside it.
        example: inputs; their sizes become the network's, for one sample at a time.

    Raises:
        ConfigurationError: for what has no C, by name, before anything is written.
    """
    require(path.suffix in ("", ".c"), "out", path.name, "name the source file NAME.c")
    found = frozen(network, example)
    program = lowered(found)
    memory = placed(program, found.output)
    name, (header, source, test) = source_names(path)
    sizes = (found.sample.numel(), found.flow.values[found.output].numel())
    texts = {  # all of them, before anything is written
        header: _header(name, found, sizes),
        source: _source(name, header, found, program, memory),
        test: self_test(name, header, network, example, max(1, min(4, _RECORDED // sizes[0]))),
    }
    for file, text in texts.items():
        path.with_name(path.name if file == source else file).write_text(text, encoding="utf-8")


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape[1:])) or "1"


def _header(name: str, found: Frozen, sizes: tuple[int, int]) -> str:
    guard = f"{name.upper()}_H"
    output = found.flow.values[found.output].shape
    return f"""#ifndef {guard}
#define {guard}

#define {name.upper()}_INPUT {sizes[0]} /* {_shape(found.sample.shape)} */
#define {name.upper()}_OUTPUT {sizes[1]} /* {_shape(output)} */

/* Compute the network's output for one sample, both as torch stores them. Its memory is static: one
   call at a time. */
void {name}(const float input[{name.upper()}_INPUT], float output[{name.upper()}_OUTPUT]);

#endif
"""


def _kernel(name: str) -> str:
    """Return a kernel's source; a number in its name is the weights' bits, or a tile's outputs."""
    base, _, bits = name.rpartition("_")
    text = (files(__package__) / "kernels" / f"{base if bits.isdigit() else name}.c").read_text()
    if bits.isdigit():
        text = text.replace("BITS", bits).replace("MASK", str((1 << int(bits)) - 1))
        text = text.replace("TILE", bits)
    return text


def _source(name: str, header: str, found: Frozen, program: Program, memory: Memory) -> str:
    rank = {kernel: i for i, kernel in enumerate(_ORDER)}
    kernels = sorted(program.kernels, key=lambda k: (rank[k.rstrip("_12348")], k))
    threshold = f"typedef int{16 if program.small_thresholds else 32}_t threshold;\n\n"
    parts = [
        _plan(name, program, memory),
        "#include <math.h>\n#include <stddef.h>\n#include <stdint.h>\n\n"
        f'#include "{header}"\n\n{_COMPILERS}',
        threshold if program.largest_threshold else "",
        "\n".join(map(_kernel, kernels)),
        "\n".join(
            "\n".join([*(program.arrays[array] for array in operation.arrays), operation.code])
            for operation in program.operations
        ),
        _network(name, found, program, memory),
    ]
    return "\n".join(part for part in parts if part)


def _plan(name: str, program: Program, memory: Memory) -> str:
    """Return the comment at the top: what takes how much memory, and where."""
    lines = [
        f"/* {name}: a network packed by ste_lightning.",
        "",
        f"   Flash: {program.constants:,} bytes of constants, beside the code.",
        f"   RAM: {memory.bytes:,} bytes, all of them static.",
        "",
        f"   {'constants':>9}  {'result at':>9}  {'bytes':>7}",
    ]
    for operation in program.operations:
        constants = sum(map(program.array_bytes, operation.arrays))
        at = memory.results.get(operation.result)
        size = program.stored[operation.result].bytes
        place = "output" if at is None else str(at)
        lines.append(f"   {constants:>9}  {place:>9}  {size:>7}  {operation.comment}")
    return "\n".join(lines) + " */\n"


def _network(name: str, found: Frozen, program: Program, memory: Memory) -> str:
    output = program.root(found.output)

    def at(kind: str, place: int) -> str:
        return f"AT({kind}, {place})"

    def of(result: str) -> str:
        if result == found.input:
            return "input"
        if result == output:
            return "output"
        return at(program.stored[result].c_type, memory.results[result])

    upper = name.upper()
    lines = [
        "static union {\n    uint32_t aligned;\n"
        f"    unsigned char bytes[{max(memory.bytes, 1)}];\n}} memory;\n",
        "#define AT(type, place) ((type *)(void *)(memory.bytes + (place)))\n",
        f"void {name}(const float input[{upper}_INPUT], float output[{upper}_OUTPUT])",
        "{",
    ]
    for operation, rooms in zip(program.operations, memory.temporaries, strict=True):
        given = [*map(of, operation.inputs), of(operation.result)]
        kinds = [kind for kind, _ in operation.temporaries]
        given += [at(kind, place) for kind, place in zip(kinds, rooms, strict=True)]
        lines.append(f"    {operation.name}({', '.join(given)});")
    return "\n".join([*lines, "}"]) + "\n"
