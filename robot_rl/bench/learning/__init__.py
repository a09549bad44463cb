"""How well the learners learn: arms x seeds through the commands that a user types, resumable."""
