"""Experience replay: segments stored once, windows drawn in proportion to their priorities."""
