"""What waits for the backward pass: bit masks, codes, and reused workspace buffers."""
