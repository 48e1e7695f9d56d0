"""The parts of a Q-network: torso -> memory -> head."""
