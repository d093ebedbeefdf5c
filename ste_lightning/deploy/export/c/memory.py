"""Where results are kept: places in one block of memory, reused once nobody needs them."""

from __future__ import annotations

from dataclasses import dataclass

from ste_lightning.deploy.export.c.program import Program

__all__ = ["Memory", "placed"]

_ALIGNED = 16


@dataclass
class _Room:
    """A piece of memory that is in use from one operation to another."""

    bytes: int
    first: int
    last: int
    at: int = 0


@dataclass(frozen=True)
class Memory:
    """A plan of memory.

    Attributes:
        bytes: the size of the block.
        results: where each result begins; the input and the output have no place in it.
        temporaries: where the temporaries of each operation begin.
    """

    bytes: int
    results: dict[str, int]
    temporaries: list[list[int]]


def placed(program: Program, output: str) -> Memory:
    """Return where the results and temporaries of a program are kept.

    Large ones are placed first, each at the lowest place that is free as long as it is needed. An
    operation that computes number by number writes over its input where nobody else reads that.

    Args:
        program: complete.
        output: the result that is written elsewhere.
    """
    output = program.root(output)
    last: dict[str, int] = {}
    for index, operation in enumerate(program.operations):
        last |= dict.fromkeys(operation.inputs, index)
    rooms: list[_Room] = []
    of: dict[str, _Room] = {}
    temporaries: list[list[_Room]] = []
    for index, operation in enumerate(program.operations):
        size, source = program.stored[operation.result].bytes, operation.inputs[0]
        until = last.get(operation.result, index)
        room = of.get(source)
        if operation.result == output:
            pass
        elif operation.in_place and room is not None and room.last == index and room.bytes == size:
            room.last = until
            of[operation.result] = room
        else:
            of[operation.result] = _Room(size, index, until)
            rooms.append(of[operation.result])
        temporaries.append([_Room(count, index, index) for _, count in operation.temporaries])
        rooms += temporaries[-1]
    done: list[_Room] = []
    for room in sorted(rooms, key=lambda r: -r.bytes):
        beside = sorted(
            (r for r in done if r.first <= room.last and room.first <= r.last), key=lambda r: r.at
        )
        for other in beside:
            if room.at + room.bytes <= other.at:
                break
            room.at = max(room.at, -(-(other.at + other.bytes) // _ALIGNED) * _ALIGNED)
        done.append(room)
    return Memory(
        max((room.at + room.bytes for room in done), default=0),
        {name: room.at for name, room in of.items()},
        [[room.at for room in found] for found in temporaries],
    )
