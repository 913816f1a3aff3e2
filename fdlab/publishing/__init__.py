"""A board for others to read: text, LaTeX, a page, a model card, Weights & Biases; two runs told apart."""
