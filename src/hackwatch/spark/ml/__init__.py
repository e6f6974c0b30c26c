"""Spark ML: its pipelines as detectors and as bundles, and training on Spark."""
