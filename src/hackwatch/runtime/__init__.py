"""What both engines need around the pipeline, once: options, detectors, status, store, routes, the lock."""
