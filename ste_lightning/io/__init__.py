"""Files that are whole or not there, and where the package's own files are. Imports errors only."""

__all__: list[str] = []
