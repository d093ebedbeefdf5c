"""The entries of a plan: the integers that compiled code is told of weights.

A call record begins with them. They are one array, since a dozen arguments would each cost time at
every call.
"""

from __future__ import annotations

__all__ = [
    "PLAN",
    "PLAN_BLOCK",
    "PLAN_CHANNELS",
    "PLAN_DIGIT",
    "PLAN_FORMAT",
    "PLAN_GROUPS",
    "PLAN_GROUP_BYTES",
    "PLAN_INPUT_PLANES",
    "PLAN_OUTPUTS",
    "PLAN_PANEL_BYTES",
    "PLAN_PITCH",
    "PLAN_PLANE_BYTES",
    "PLAN_ROW_BYTES",
    "PLAN_ROW_SLOPE",
    "PLAN_SLOPE",
    "PLAN_STEPS",
    "PLAN_TAPS",
    "PLAN_UNITS",
    "PLAN_WEIGHT_PLANES",
]

(
    PLAN_FORMAT,  # the layout's number
    PLAN_INPUT_PLANES,  # planes of bits (or digits) of the inputs
    PLAN_WEIGHT_PLANES,  # and of the weights
    PLAN_GROUPS,  # of channels
    PLAN_OUTPUTS,  # per group
    PLAN_TAPS,  # kernel positions
    PLAN_CHANNELS,  # of the inputs, per group
    PLAN_ROW_BYTES,  # of a packed input row (one tap) and group
    PLAN_UNITS,  # of an output's weights
    PLAN_PLANE_BYTES,  # of a plane of weights
    PLAN_GROUP_BYTES,  # of a group's panels
    PLAN_SLOPE,  # factor of the counts or sums
    PLAN_ROW_SLOPE,  # factor of the sums of the inputs' codes
    PLAN_STEPS,  # whether binary inputs are steps (x > 0) rather than signs (x >= 0)
    PLAN_BLOCK,  # units that one call may sum; of dot products, rows from which on tiles are used
    PLAN_DIGIT,  # bits of the weights in a plane
    PLAN_PANEL_BYTES,  # of a panel and plane
    PLAN_PITCH,  # places from one row of results to the next
) = range(18)
PLAN = 18  # entries
