"""Network parts shared by all learners."""
