"""Throughput of each stage, of the whole, and of the whole beside a peer."""
