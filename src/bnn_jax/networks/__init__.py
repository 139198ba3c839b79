"""The only code that tells linen modules, NNX modules and plain functions apart."""
