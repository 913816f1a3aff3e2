"""What is made of a data set once, and kept: latents, masks, cut-out people, embeddings."""
