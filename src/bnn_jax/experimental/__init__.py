"""Code that no other part uses yet, because it has not been measured on an accelerator."""
