"""Recurrent latent world models (RSSM), and learners that act on their latent state."""
