"""Tables on disk: schemas, the run folder, and the wrapper that runs a stage on a worker."""
