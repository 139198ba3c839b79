"""How fast is it here: Bayesian training and prediction against the plain network, in turns."""
