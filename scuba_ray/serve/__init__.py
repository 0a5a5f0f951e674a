"""A finished run as a service on Ray Serve: models behind queues, the run's tables beside them, one HTTP face before both."""
