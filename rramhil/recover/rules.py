"""Names of the rules that choose weights, and which of them look at images (no torch here)."""

from __future__ import annotations

from typing import Literal, get_args

Rule = Literal["random", "magnitude", "known_bad", "errx", "fisher", "taylor"]
"""What `rramhil.recover.choosing` ranks weights by."""

RULES: tuple[Rule, ...] = get_args(Rule)
ASKS_IMAGES: tuple[Rule, ...] = ("errx", "fisher", "taylor")
