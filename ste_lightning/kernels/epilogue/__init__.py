"""From integer sums to results: floats, bits, codes, OR-pooling, and the float head."""
