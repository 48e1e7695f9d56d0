"""What a run or several came to, as pictures."""
