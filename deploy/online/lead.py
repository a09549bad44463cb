"""How far collecting may be ahead of training: a fast simulator would fill a whole run with its first policy."""

from __future__ import annotations


class Lead:
    """Asks for a pause above `most` interactions and for going on at half of them, so that it does not flutter.

    Args:
        most: Interactions; 0 for no limit.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.pausing = False

    def too_long(self, ahead: float) -> bool:
        """Whether collecting, `ahead` interactions in front of training, is to pause now."""
        self.pausing = self.most > 0 and ahead > (self.most / 2 if self.pausing else self.most)
        return self.pausing
