"""Both towers in one space."""
