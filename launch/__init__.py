"""One thin file per command; the only place that knows absl flags."""
