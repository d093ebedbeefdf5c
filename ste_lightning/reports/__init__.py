"""What runs report and draw beyond their logged metrics; named in recipes as ``_target_``."""

__all__: list[str] = []
