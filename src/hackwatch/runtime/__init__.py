"""What both engines need around the pipeline: detectors and their reload, retry, housekeeping, status, the lock."""
