"""Numbers as people read them."""

from __future__ import annotations

GROUP_WORD = {"person": "people", "vehicle": "vehicles"}


def percent(share: float | None) -> str:
    """``97 %``; never 100 % or 0 % for what is only nearly so; a dash for None."""
    if share is None:
        return "–"
    if share in (0, 1) or 0.005 <= share < 0.995:
        return f"{share:.0%}".replace("%", "\u202f%")
    if share > 0.9999 or share < 0.0001:
        return "> 99.99\u202f%" if share > 0.5 else "< 0.01\u202f%"
    return f"{share:.2%}".replace("%", "\u202f%")


def duration(seconds: float) -> str:
    """``8.4 s``, ``2 min 19 s``, ``3 h 05 min``, ``4 d 02 h``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02} h"
