"""How operands lie in memory: codes, geometry, weight tiles, packed weights, call records."""
