"""What one `scuba serve` is asked over HTTP. A package, so that its service ends with it; one worker has all of it."""
