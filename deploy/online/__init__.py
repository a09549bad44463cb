"""Fine-tuning online: the learner, its actors, and an arm as their environment."""
