"""How far a system goes: simulated with the real coordinator."""
