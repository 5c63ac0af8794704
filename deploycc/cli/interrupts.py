"""What a signal that asks to end becomes."""

from __future__ import annotations


class Interrupted(BaseException):
    """A signal that asks to end came; ``number`` is the signal's, ``told`` what the user reads."""

    def __init__(self, number: int, told: str = "interrupted; nothing was written") -> None:
        super().__init__(number)
        self.number = number
        self.told = told
