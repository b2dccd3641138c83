"""How the attributes of products are said in both languages: "with 256 GB of storage"."""

from trainer.hima_ecom.catalog import COLOURS_ZH
from trainer.hima_ecom.tasks.builder import Builder

# Those of yes and no have no phrase, and no task asks for them.
_SAID = {
    "battery_hours": ("a battery for {} hours", "{} 小时电池"), "colour": ("the colour {}", "{}"),
    "screen_inches": ("a {} inch screen", "{} 英寸屏幕"), "memory_gb": ("{} GB of memory", "{} GB 内存"),
    "storage_gb": ("{} GB of storage", "{} GB 存储"), "connection": ("a {} connection", "{} 连接"),
    "layout": ("a {} layout", "{} 键位"), "panel": ("the panel type {}", "{} 面板"), "power_watts": ("{} watts", "{} 瓦"),
    "capacity_litres": ("a capacity of {} litres", "{} 升容量"), "kind": ("the kind {}", "{} 类型"),
    "material": ("the material {}", "{} 材质"), "size": ("size {}", "{} 尺寸"), "fit": ("a {} fit", "{} 版型"),
    "terrain": ("the terrain {}", "{} 路面"), "skin_type": ("the skin type {}", "{} 肤质"),
    "volume_ml": ("a volume of {} ml", "{} 毫升"), "hair_type": ("the hair type {}", "{} 发质"),
    "scent": ("a {} scent", "{} 香调"), "age": ("the age group {}", "{} 岁"), "pieces": ("{} pieces", "{} 片"),
    "players": ("{} players", "{} 人游戏"), "language": ("the language {}", "{} 语言"), "motif": ("the motif {}", "{} 图案"),
    "thickness_mm": ("a thickness of {} mm", "{} 毫米厚度"), "seasons": ("a rating for {} seasons", "{} 季"),
    "persons": ("room for {}", "{} 人容量"), "roast": ("a {} roast", "{} 烘焙度"), "weight_g": ("{} grams", "{} 克装"),
    "origin": ("the origin {}", "{} 产地"), "cocoa_percent": ("{} % cocoa", "{} % 可可"),
}  # fmt: skip


def can_be_said(name: str) -> bool:
    """Whether an attribute has a phrase."""
    return name in _SAID


def said(b: Builder, attributes: dict[str, str]) -> tuple[str, str]:
    """Attributes as the sub-agents say them, in English, and as the query does."""
    english = " and ".join(_SAID[name][0].format(value) for name, value in attributes.items())
    chinese = "、".join(_SAID[name][1].format(COLOURS_ZH.get(value, value)) for name, value in attributes.items())
    return english, chinese if b.zh else english
