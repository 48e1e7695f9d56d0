"""Games that are not trained on: scores, and videos of them."""
