"""The reasons of refusals, by what they are about. A refusal gives the one that holds before any of another group, so that an
answer that lists all reasons is right for one group at most."""

TOO_LATE = ("period", "unopened", "未拆封", "退货期", "within")
COUPON = (
    "expired", "not valid", "valid from", "minimum", "at least", "already has", "already used", "has none", "other items",
    "coupon", "已过期", "尚未生效", "最低金额", "已使用", "已经使用", "不适用", "优惠券",
)  # fmt: skip
LEFT = ("shipped", "delivered", "已发货", "已送达")
WHICH_ONE = ("which", "哪")
NOT_KNOWN = (
    "information", "not found", "find", "no data", "not know", "don't know", "unknown", "not in", "not exist", "doesn't exist",
    "not sell", "don't sell", "not carry", "don't carry", "no record", "any record", "not available", "no product", "信息",
    "没有找到", "找不到", "查不到", "没有这", "没有该", "不存在", "资料",
)  # fmt: skip
NO_RETURN = (
    "be returned", "be sent back", "no return", "not returnable", "non-returnable", "cannot return", "can't return",
    "can not return", "not accept", "excluded", "not come back", "not go back", "no days", "不能退", "不可退", "不支持退",
    "无法退", "不接受退", "不退",
)  # fmt: skip
NO_SOLUTION = (
    "no solution", "never", "always", "no number", "never changes", "contradict", "contradiction", "same", "永远", "始终",
    "无解", "没有解", "总是", "不会", "不变", "矛盾",
)  # fmt: skip
NOBODY = ("zero", "nobody", "no one", "no-one", "none", "divide", "division", "divided", "0", "零", "没有人", "没人", "除以")
