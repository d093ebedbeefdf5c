"""Pages of results as one HTML file each, which needs nothing beside it."""

__all__: list[str] = []
