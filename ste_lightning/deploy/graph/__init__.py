"""What a network computes, as data."""
