"""Word lists of the catalogue: types of products, brands, attributes, and what customers write about them."""

from typing import NamedTuple


class ProductType(NamedTuple):
    """A type of product: its names, the range of its prices in cents, the attributes that a family shares or varies."""

    name: str
    name_zh: str
    category: str
    low_cents: int
    high_cents: int
    shared: dict[str, tuple[str, ...]]  # one value a family
    varied: dict[str, tuple[str, ...]]  # the variants of a family differ here


COLOURS = ("black", "white", "blue", "red", "green", "grey", "silver", "orange")
COLOURS_ZH = dict(zip(COLOURS, ("黑色", "白色", "蓝色", "红色", "绿色", "灰色", "银色", "橙色"), strict=True))
_COLOUR: dict[str, tuple[str, ...]] = {"colour": COLOURS}
_SIZES: dict[str, tuple[str, ...]] = {"colour": COLOURS, "size": ("S", "M", "L", "XL")}
_SHOES: dict[str, tuple[str, ...]] = {"colour": COLOURS, "size": ("38", "40", "42", "44")}

TYPES = (
    ProductType(
        "headset",
        "头戴式耳机",
        "electronics",
        2900,
        39900,
        {"wireless": ("yes", "no"), "battery_hours": ("20", "30", "40")},
        _COLOUR,
    ),
    ProductType(
        "laptop",
        "笔记本电脑",
        "electronics",
        49900,
        219900,
        {"screen_inches": ("13", "14", "16")},
        {"memory_gb": ("8", "16", "32"), "storage_gb": ("256", "512", "1024")},
    ),
    ProductType(
        "phone",
        "手机",
        "electronics",
        19900,
        119900,
        {"screen_inches": ("6.1", "6.5", "6.7")},
        {"colour": COLOURS, "storage_gb": ("128", "256", "512")},
    ),
    ProductType(
        "tablet",
        "平板电脑",
        "electronics",
        14900,
        89900,
        {"screen_inches": ("8", "10", "12")},
        {"storage_gb": ("64", "128", "256")},
    ),
    ProductType(
        "keyboard",
        "键盘",
        "electronics",
        1900,
        19900,
        {"connection": ("wired", "bluetooth")},
        {"layout": ("US", "UK", "German", "French")},
    ),
    ProductType(
        "monitor", "显示器", "electronics", 9900, 79900, {"panel": ("IPS", "OLED", "VA")}, {"screen_inches": ("24", "27", "32")}
    ),
    ProductType("smart speaker", "智能音箱", "electronics", 3900, 24900, {"power_watts": ("10", "20", "40")}, _COLOUR),
    ProductType(
        "kettle",
        "电水壶",
        "home",
        1900,
        8900,
        {"power_watts": ("1500", "2000", "2400")},
        {"colour": COLOURS, "capacity_litres": ("1.0", "1.5", "1.7")},
    ),
    ProductType("coffee maker", "咖啡机", "home", 3900, 49900, {"kind": ("filter", "espresso", "capsule")}, _COLOUR),
    ProductType("desk lamp", "台灯", "home", 1500, 9900, {"dimmable": ("yes", "no")}, _COLOUR),
    ProductType("vacuum cleaner", "吸尘器", "home", 7900, 59900, {"cordless": ("yes", "no")}, _COLOUR),
    ProductType(
        "blanket",
        "毯子",
        "home",
        1900,
        12900,
        {"material": ("wool", "cotton", "fleece")},
        {"colour": COLOURS, "size": ("130x170", "150x200")},
    ),
    ProductType(
        "jacket", "夹克", "clothing", 3900, 29900, {"material": ("denim", "wool", "nylon"), "waterproof": ("yes", "no")}, _SIZES
    ),
    ProductType("t-shirt", "T恤", "clothing", 900, 4900, {"material": ("cotton", "linen", "bamboo")}, _SIZES),
    ProductType("hoodie", "连帽衫", "clothing", 2900, 14900, {"fit": ("slim", "regular", "wide")}, _SIZES),
    ProductType("running shoe", "跑鞋", "clothing", 4900, 19900, {"terrain": ("road", "trail")}, _SHOES),
    ProductType(
        "face cream",
        "面霜",
        "beauty",
        900,
        8900,
        {"skin_type": ("dry", "oily", "sensitive")},
        {"volume_ml": ("30", "50", "100")},
    ),
    ProductType(
        "shampoo",
        "洗发水",
        "beauty",
        500,
        3900,
        {"hair_type": ("fine", "curly", "coloured")},
        {"volume_ml": ("250", "400", "750")},
    ),
    ProductType(
        "perfume", "香水", "beauty", 2900, 18900, {"scent": ("citrus", "floral", "woody")}, {"volume_ml": ("30", "50", "100")}
    ),
    ProductType("building set", "积木", "toys", 1900, 24900, {"age": ("4+", "8+", "12+")}, {"pieces": ("250", "500", "1000")}),
    ProductType(
        "board game",
        "桌游",
        "toys",
        1500,
        7900,
        {"players": ("2", "2-4", "3-6")},
        {"language": ("English", "German", "Chinese")},
    ),
    ProductType(
        "puzzle", "拼图", "toys", 900, 4900, {"motif": ("mountains", "city", "animals")}, {"pieces": ("500", "1000", "2000")}
    ),
    ProductType(
        "yoga mat",
        "瑜伽垫",
        "sports",
        1500,
        8900,
        {"material": ("rubber", "cork", "foam")},
        {"colour": COLOURS, "thickness_mm": ("3", "5", "8")},
    ),
    ProductType("tent", "帐篷", "sports", 6900, 49900, {"seasons": ("3", "4")}, {"persons": ("1", "2", "4")}),
    ProductType(
        "backpack",
        "背包",
        "sports",
        2900,
        19900,
        {"waterproof": ("yes", "no")},
        {"colour": COLOURS, "capacity_litres": ("20", "30", "45")},
    ),
    ProductType(
        "bicycle helmet",
        "自行车头盔",
        "sports",
        2900,
        14900,
        {"light": ("yes", "no")},
        {"colour": COLOURS, "size": ("S", "M", "L")},
    ),
    ProductType(
        "ground coffee",
        "咖啡粉",
        "grocery",
        700,
        2900,
        {"roast": ("light", "medium", "dark")},
        {"weight_g": ("250", "500", "1000")},
    ),
    ProductType("green tea", "绿茶", "grocery", 500, 3900, {"origin": ("China", "Japan")}, {"weight_g": ("50", "100", "250")}),
    ProductType(
        "chocolate", "巧克力", "grocery", 300, 1900, {"cocoa_percent": ("45", "70", "85")}, {"weight_g": ("100", "200")}
    ),
)
BRANDS = (
    "Aurelo", "Brightwell", "Cindra", "Dovetail", "Evermoor", "Fennick", "Glasswing", "Hollin", "Iverra", "Junipa",
    "Kestrelle", "Lumora", "Marlow & Finch", "Nordhavn", "Orbeon", "Pellico", "Quillon", "Rivenna", "Solstead", "Tamsin",
    "Umbrio", "Velden", "Wrenfield", "Yarrowby",
)  # fmt: skip
LINES = (
    "Alba", "Breeze", "Core", "Drift", "Echo", "Flint", "Grove", "Haze", "Ion", "Jade", "Kite", "Lark", "Mist", "Nova", "Opal",
    "Pace", "Quest", "Ridge", "Sage", "Tide", "Unity", "Vista", "Wave", "Zen",
)  # fmt: skip
# (title, body) by stars; {name} is the product's.
REVIEWS: dict[int, tuple[tuple[str, str], ...]] = {
    1: (
        ("Broke in a week", "The {name} stopped working after a few days."),
        ("Not as described", "I expected something else."),
        ("Waste of money", "Poor quality, I would not buy it again."),
    ),
    2: (
        ("Disappointing", "The {name} looks cheaper than in the pictures."),
        ("Below average", "It does the job, but only just."),
    ),
    3: (
        ("It is all right", "Nothing special about the {name}, but no real faults."),
        ("Fair for the price", "Good enough for occasional use."),
    ),
    4: (
        ("Good buy", "The {name} does what it promises, delivery was quick."),
        ("Happy with it", "Solid quality, one small scratch on arrival."),
    ),
    5: (
        ("Excellent", "The {name} is the best I have owned."),
        ("Highly recommended", "Great quality, my whole family uses it."),
        ("Perfect gift", "Bought the {name} as a present, it was loved."),
    ),
}
# (question, answer); {name}, {attribute} and {value} are filled in.
QUESTIONS = (
    ("What is the {attribute} of the {name}?", "The {attribute} of the {name} is {value}."),
    ("How long is the warranty on the {name}?", "The {name} has a warranty of {months} months."),
    ("Where is the {name} made?", "The {name} is made in {country}."),
    ("How heavy is the {name}?", "The {name} weighs {grams} grams including its packaging."),
    ("How should I clean the {name}?", "For the {name}: {care}."),
)
# What is asked about every category, and what only about some.
ONLY_FOR = {
    "How long is the warranty on the {name}?": ("electronics", "home", "clothing", "toys", "sports"),
    "How should I clean the {name}?": ("electronics", "home", "clothing", "toys", "sports"),
}
ORIGINS = {
    "Portugal": "葡萄牙", "Vietnam": "越南", "Germany": "德国", "China": "中国", "Mexico": "墨西哥", "Japan": "日本",
    "Poland": "波兰", "Turkey": "土耳其", "Italy": "意大利", "Canada": "加拿大", "France": "法国", "Spain": "西班牙",
    "Sweden": "瑞典", "Norway": "挪威", "Finland": "芬兰", "Denmark": "丹麦", "Austria": "奥地利", "Switzerland": "瑞士",
    "Belgium": "比利时", "Greece": "希腊", "Ireland": "爱尔兰", "Hungary": "匈牙利", "Romania": "罗马尼亚",
    "Bulgaria": "保加利亚", "Croatia": "克罗地亚", "Slovakia": "斯洛伐克", "Estonia": "爱沙尼亚", "Latvia": "拉脱维亚",
    "Thailand": "泰国", "Malaysia": "马来西亚", "Indonesia": "印度尼西亚", "Cambodia": "柬埔寨", "Bangladesh": "孟加拉国",
    "Pakistan": "巴基斯坦", "Morocco": "摩洛哥", "Tunisia": "突尼斯", "Kenya": "肯尼亚", "Brazil": "巴西", "Peru": "秘鲁",
    "Chile": "智利",
}  # fmt: skip
MONTHS = tuple(str(months) for months in range(3, 123, 3))  # of a warranty
# What a packed product of a type weighs, in grams, at least and at most.
GRAMS = {
    "headset": (180, 600), "laptop": (1200, 3200), "phone": (220, 480), "tablet": (350, 900), "keyboard": (400, 1400),
    "monitor": (3200, 8500), "smart speaker": (400, 2600), "kettle": (900, 2100), "coffee maker": (1900, 9800),
    "desk lamp": (600, 2400), "vacuum cleaner": (2600, 7900), "blanket": (600, 2300), "jacket": (400, 1600),
    "t-shirt": (120, 300), "hoodie": (350, 900), "running shoe": (500, 1100), "face cream": (90, 300), "shampoo": (280, 900),
    "perfume": (150, 480), "building set": (500, 2900), "board game": (500, 2400), "puzzle": (350, 1500),
    "yoga mat": (800, 2600), "tent": (1500, 6900), "backpack": (500, 1900), "bicycle helmet": (250, 700),
    "ground coffee": (270, 1100), "green tea": (70, 400), "chocolate": (110, 320),
}  # fmt: skip
