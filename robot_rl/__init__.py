"""Learning: data, networks, algorithms, pretraining and evaluation."""
