"""The bridge: transitions from actors to the learner exactly once, weights and control back."""
