"""The only code that reads jaxprs: it runs networks on random weights and on antithetic pairs."""
