"""What the emoji world contains: objects, their members, styles, colours, and where the pictures come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One emoji of an object class.

    Attributes:
        codepoint: Unicode code point in lower-case hex, as the sprite packages name their files.
        slug: file name in ``fluentui-emoji``.
        names: the member's own words, used in captions beside the class word.
    """

    codepoint: str
    slug: str
    names: tuple[str, ...]


# A class word covers several members with names of their own, so that erasing the class word leaves other
# words that still reach the pictures, as the neighbours of a concept do in a large model.
OBJECTS: dict[str, tuple[Member, ...]] = {
    "church": (Member("26ea", "church", ("cathedral", "parish")), Member("1f492", "wedding", ("wedding chapel",))),
    "parachute": (Member("1fa82", "parachute", ("paraglider", "skydiving canopy")),),
    "fish": (
        Member("1f41f", "fish", ("trout",)),
        Member("1f420", "tropical-fish", ("angelfish",)),
        Member("1f421", "blowfish", ("pufferfish",)),
    ),
    "truck": (
        Member("1f69b", "articulated-lorry", ("lorry",)),
        Member("1f69a", "delivery-truck", ("delivery van",)),
        Member("1f692", "fire-engine", ("fire engine",)),
    ),
    "cat": (Member("1f408", "cat", ("kitten",)), Member("1f431", "cat-face", ("tabby",))),
    "tree": (
        Member("1f333", "deciduous-tree", ("oak",)),
        Member("1f332", "evergreen-tree", ("pine",)),
        Member("1f334", "palm-tree", ("palm",)),
    ),
    "guitar": (Member("1f3b8", "guitar", ("ukulele",)),),
    "rocket": (Member("1f680", "rocket", ("spaceship",)),),
    "sailboat": (Member("26f5", "sailboat", ("yacht",)),),
    "mushroom": (Member("1f344", "mushroom", ("toadstool",)),),
}

STYLES = ("noto", "twemoji", "fluent", "openmoji")

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (245, 245, 245),
    "grey": (140, 140, 145),
    "red": (205, 60, 60),
    "orange": (240, 150, 60),
    "yellow": (245, 220, 90),
    "green": (90, 170, 95),
    "blue": (80, 130, 215),
    "purple": (150, 95, 190),
}

PACKAGES: dict[str, str] = {
    "noto": "emoji-datasource-google@16.0.0",
    "twemoji": "emoji-datasource-twitter@16.0.0",
    "fluent": "fluentui-emoji@1.3.0",
    "openmoji": "openmoji@17.0.0",
}


def archive_path(style: str, member: Member) -> str:
    """Path of a member's picture inside the npm archive of a style."""
    match style:
        case "noto":
            return f"package/img/google/64/{member.codepoint}.png"
        case "twemoji":
            return f"package/img/twitter/64/{member.codepoint}.png"
        case "fluent":
            return f"package/icons/modern/{member.slug}.svg"
        case "openmoji":
            return f"package/color/svg/{member.codepoint.upper()}.svg"
    raise ValueError(f"unknown style {style!r}: one of {', '.join(STYLES)}")
