"""Learning: minibatches to gradient steps, priorities and new weights."""
