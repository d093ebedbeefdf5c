"""The engine behind `theory.simulate`: data, the fused CPU kernel, the batched torch backend."""

__all__: list[str] = []
