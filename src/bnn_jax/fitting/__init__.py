"""Epochs over data: the loop, its progress display, checkpoints. It knows no method by name."""
