"""The wiring: one coordinator over an engine that runs the components here or on Ray."""
