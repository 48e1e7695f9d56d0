"""The equations of deep Q-learning, one function each, in the notation of the papers."""
