"""The report of a run: its scores, its figures, and one page with both.

    report.require(folder)  # before any work
    numbers = report.write(folder, experiment.load(folder), ood=["fashion_mnist"])

Drawing needs matplotlib, the extra `plot`; importing this package does not.
"""

from bnn_jax.report.classifier_gather import gather_classifier as gather_classifier
from bnn_jax.report.findings import ClassifierFindings as ClassifierFindings
from bnn_jax.report.findings import RegressionFindings as RegressionFindings
from bnn_jax.report.folder import require as require
from bnn_jax.report.folder import write as write
from bnn_jax.report.folder import write_findings as write_findings
from bnn_jax.report.regression_gather import gather_regression as gather_regression
