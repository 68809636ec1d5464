"""The detector's arithmetic: stdlib and numpy only, no I/O, no clock, no randomness, no logging."""
