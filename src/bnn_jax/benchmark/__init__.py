"""Timing of Bayesian training and prediction relative to the plain network."""
