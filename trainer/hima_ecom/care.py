"""How products are cleaned: the shop's advice in both languages, for which categories, and what of it must be said."""

from typing import NamedTuple


class Advice(NamedTuple):
    """An advice in Chinese, the categories that it fits (by their first letters), and the words that are enough to name it."""

    chinese: str
    categories: str
    keys: tuple[str, ...]


_CATEGORY = {"e": "electronics", "h": "home", "c": "clothing", "t": "toys", "s": "sports"}
ADVICE: dict[str, Advice] = {
    "wipe it with a dry cloth only": Advice("只用干布擦拭", "eht", ("dry cloth", "干布")),
    "use a damp cloth and mild soap": Advice(
        "用湿布和温和的肥皂清洁", "hts", ("mild soap", "damp cloth and soap", "温和的肥皂", "湿布和肥皂")
    ),
    "rinse it with cold water": Advice("用冷水冲洗", "sh", ("cold water", "冷水")),
    "use a damp cloth without soap": Advice(
        "用湿布擦拭，不用肥皂", "e", ("without soap", "no soap", "damp cloth only", "不用肥皂", "不要用肥皂")
    ),
    "blow the dust away with compressed air": Advice("用压缩空气吹去灰尘", "e", ("compressed air", "压缩空气")),
    "have it cleaned by a specialist once a year": Advice(
        "每年请专业人员清洁一次", "h", ("specialist", "professional", "professionally", "专业")
    ),
    "wash it at 30 degrees": Advice("30 度水洗", "c", ("30 degrees", "30 °C", "30°", "30 度", "三十度")),
    "wash it at 40 degrees": Advice("40 度水洗", "c", ("40 degrees", "40 °C", "40°", "40 度", "四十度")),
    "wash it at 60 degrees": Advice("60 度水洗", "ch", ("60 degrees", "60 °C", "60°", "60 度", "六十度")),
    "wash it by hand only": Advice("只能手洗", "c", ("by hand", "hand wash", "hand-wash", "手洗")),
    "have it dry-cleaned": Advice(
        "送去干洗", "c", ("dry-cleaned", "dry cleaned", "dry-clean", "dry clean", "dry cleaning", "干洗")
    ),
    "clean it with an alcohol wipe": Advice("用酒精湿巾擦拭", "et", ("alcohol wipe", "alcohol wipes", "酒精")),
    "air it and brush it off": Advice("通风晾晒并刷净", "s", ("brush", "刷")),
    "wipe it with a microfibre cloth": Advice("用超细纤维布擦拭", "e", ("microfibre", "microfiber", "超细纤维")),
    "use glass cleaner": Advice("使用玻璃清洁剂", "e", ("glass cleaner", "玻璃清洁剂")),
    "go over it with a cotton swab": Advice("用棉签清理", "et", ("cotton swab", "cotton swabs", "棉签")),
    "use lens tissue": Advice("用镜头纸擦拭", "e", ("lens tissue", "lens tissues", "镜头纸")),
    "descale it with vinegar": Advice("用醋除垢", "h", ("vinegar", "醋")),
    "boil citric acid in it": Advice("加柠檬酸煮沸", "h", ("citric acid", "柠檬酸")),
    "rub it with baking soda": Advice("用小苏打擦洗", "hs", ("baking soda", "小苏打")),
    "put it into the dishwasher": Advice("放入洗碗机", "ht", ("dishwasher", "洗碗机")),
    "use a feather duster": Advice("用羽毛掸除尘", "he", ("feather duster", "羽毛掸")),
    "treat it with steam": Advice("用蒸汽处理", "hce", ("steam", "蒸汽")),
    "use wool detergent": Advice("使用羊毛洗涤剂", "c", ("wool detergent", "羊毛洗涤剂")),
    "go over it with a lint roller": Advice("用粘毛器清理", "c", ("lint roller", "粘毛器")),
    "put it into the freezer overnight": Advice("放入冰箱冷冻一夜", "ct", ("freezer", "冷冻")),
    "soak it in salt water": Advice("浸泡在盐水中", "cs", ("salt water", "盐水")),
    "dab stains with lemon juice": Advice("用柠檬汁轻拍污渍", "ch", ("lemon juice", "柠檬汁")),
    "use a wet sponge": Advice("用湿海绵擦洗", "tsh", ("sponge", "海绵")),
    "use washing-up liquid": Advice("使用洗洁精", "ts", ("washing-up liquid", "dish soap", "洗洁精")),
    "wipe it with baby wipes": Advice("用婴儿湿巾擦拭", "t", ("baby wipe", "baby wipes", "婴儿湿巾")),
    "rub it off with an eraser": Advice("用橡皮擦去污渍", "t", ("eraser", "橡皮")),
    "hose it down": Advice("用水管冲洗", "s", ("hose", "水管")),
    "use saddle soap": Advice("使用马鞍皂", "s", ("saddle soap", "马鞍皂")),
    "spray it with tea tree oil": Advice("喷洒茶树油", "s", ("tea tree oil", "茶树油")),
    "use a disinfectant spray": Advice("使用消毒喷雾", "ts", ("disinfectant", "消毒")),
}
CARE = {
    name: tuple(text for text, advice in ADVICE.items() if letter in advice.categories) for letter, name in _CATEGORY.items()
}
