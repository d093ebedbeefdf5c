"""What the training command does with a configuration: build, run, report, combine a sweep."""

__all__: list[str] = []
