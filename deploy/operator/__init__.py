"""The operator: stops, arming, labels and signs of life, from keys, signals and a socket."""
