"""The tables of the store: columns, keys and indexes.

Money is integer cents, dates are ISO strings, every primary key is one text column.
"""

# table -> its columns; the first is the primary key. A column ends in its SQL type: "i" integer, "r" real, else text.
_DECLARED = {
    "meta": "key value",
    "products": "product_id family_id type category brand name name_zh attributes price_cents:i stock:i rating:r description",
    "reviews": "review_id product_id customer_id stars:i title body written_on",
    "customers": "customer_id first_name last_name email phone tier joined_on default_address_id",
    "addresses": "address_id customer_id label street city postal_code country",
    "payment_methods": "payment_method_id customer_id kind label balance_cents:i",
    "orders": (
        "order_id customer_id address_id payment_method_id status placed_on subtotal_cents:i discount_cents:i shipping_cents:i "
        "total_cents:i coupon_code"
    ),
    "order_items": "item_id order_id product_id quantity:i unit_price_cents:i status",
    "payments": "payment_id order_id payment_method_id kind amount_cents:i paid_on reason",
    "shipments": "shipment_id order_id carrier tracking_number status shipped_on delivered_on",
    "shipment_events": "event_id shipment_id happened_at location description",
    "promotions": "promotion_id name category percent_off:i starts_on ends_on",
    "coupons": "code description kind value:i minimum_cents:i category starts_on expires_on once_per_customer:i",
    "coupon_uses": "use_id code customer_id order_id",
    "returns": "return_id order_id item_id condition reason refund_cents:i payment_method_id requested_on",
    "exchanges": "exchange_id order_id item_id new_product_id quantity:i difference_cents:i payment_method_id requested_on",
    "policies": "policy_id topic title body",
    "product_questions": "question_id product_id question answer",
    "weather": "weather_id city date condition high_celsius:i low_celsius:i rain_percent:i",
    "reminders": "reminder_id date time text",
}
_TYPES = {"i": "INTEGER", "r": "REAL", "t": "TEXT"}
# What is looked up by a column other than the key.
INDEXES = (
    ("reviews", "product_id"),
    ("customers", "email"),
    ("customers", "last_name"),
    ("addresses", "customer_id"),
    ("payment_methods", "customer_id"),
    ("orders", "customer_id"),
    ("order_items", "order_id"),
    ("payments", "order_id"),
    ("shipments", "order_id"),
    ("shipments", "tracking_number"),
    ("shipment_events", "shipment_id"),
    ("coupon_uses", "code"),
    ("coupon_uses", "order_id"),
    ("returns", "order_id"),
    ("exchanges", "order_id"),
    ("product_questions", "product_id"),
)

COLUMNS: dict[str, tuple[str, ...]] = {
    table: tuple(column.partition(":")[0] for column in declared.split()) for table, declared in _DECLARED.items()
}
PRIMARY_KEY: dict[str, str] = {table: columns[0] for table, columns in COLUMNS.items()}


def _create_table(table: str) -> str:
    columns = []
    for i, column in enumerate(_DECLARED[table].split()):
        name, _, kind = column.partition(":")
        columns.append(f"{name} {_TYPES[kind or 't']}{' PRIMARY KEY' if i == 0 else ''}")
    return f"CREATE TABLE {table} ({', '.join(columns)}) WITHOUT ROWID;"


SQL = "\n".join(
    [
        *(_create_table(table) for table in COLUMNS),
        *(f"CREATE INDEX {table}_{column} ON {table} ({column});" for table, column in INDEXES),
        # Policies and answered product questions in one index; porter: "returned" finds "return".
        "CREATE VIRTUAL TABLE knowledge USING fts5(document_id UNINDEXED, title, body, tokenize='porter unicode61');",
    ]
)
