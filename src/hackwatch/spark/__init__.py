"""The pipeline on Spark Structured Streaming: same settings, tables, alerts and semantics as the embedded engine."""
