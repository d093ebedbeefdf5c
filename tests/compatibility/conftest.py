"""Lightning's remarks about small runs are no faults here."""

from pathlib import Path

import pytest

REMARKS = (
    "ignore:.*does not have many workers",
    "ignore:You defined a .validation_step. but have no",
    "ignore:.*smaller than the logging interval",
    "ignore:.*use of fork",
    "ignore:This process .* is multi-threaded",
    "ignore:.*`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:You are trying to .self.log",
    "ignore:The .grad attribute of a Tensor that is not a leaf",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*REMARKS))
