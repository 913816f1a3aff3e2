"""Trainings of the small networks that ship: autoencoder, text and image encoders, judge."""
