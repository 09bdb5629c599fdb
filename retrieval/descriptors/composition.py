"""Make one sentence of a class and a descriptor, as a text encoder wants to read it."""

_THINGS = frozenset({"a", "an", "used"})
"""First words that name a thing or a use: "which is a red cap", "which is used for cutting"."""
_STATEMENTS = frozenset({"has", "often", "typically", "may", "can"})
"""First words that bring a verb along: "which can float"."""


def compose(class_name: str, descriptor: str, *, prefix: str = "", suffix: str = "") -> str:
    """`{prefix}{class}, which … {descriptor}{suffix}`; without a descriptor `{prefix}{class}{suffix}`.

    The descriptor's first word decides what stands between, in either case of its letters. The released code of arXiv
    2210.07183 tests letters rather than words, so that "amber wings" reads "which is amber wings" and "candles on top"
    counts as "can"; here whole words decide. A descriptor that begins with "which" is a clause already.
    """
    subject, words = " ".join(class_name.split()), descriptor.split()
    if not words:
        return f"{prefix}{subject}{suffix}"
    return f"{prefix}{subject}, {_lead(words[0])}{' '.join(words)}{suffix}"


def _lead(word: str) -> str:
    word = word.rstrip(",.:;").lower()
    if word == "which":
        return ""
    if word in _THINGS:
        return "which is "
    if word in _STATEMENTS:
        return "which "
    return "which has "
