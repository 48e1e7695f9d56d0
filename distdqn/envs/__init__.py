"""Emulators to batches of frames: built by `registry.make_env`, used as a `wrappers.VectorEnv`."""
