"""What an agent may have learned: the memory entries of the SFT samples, by the tool or the agent that they are about."""

import random
from collections.abc import Sequence

# tool or sub-agent -> what is worth remembering of it
STRATEGIES: dict[str, tuple[str, ...]] = {
    # of the master
    "qa": (
        "Questions about products' facts and the store's rules go to qa.",
        "Ask qa for one fact at a time, with the full name.",
    ),
    "efc": (
        "Orders, prices, stock, coupons and every change go to efc; pass on all ids.",
        "If efc says that something is refused, tell the customer why.",
        "Give efc the customer's e-mail if the query has one.",
    ),
    "gfc": (
        "Dates, weather, units, currencies and reminders go to gfc.",
        "Give gfc the exact amount that another agent found.",
    ),
    "math": ("Leave arithmetic to math; pass on the numbers.", "Say how many decimal places are wanted."),
    # of qa
    "search_knowledge": (
        "Search with the full name of the product and one word of the question.",
        "For return periods, search 'return period' and the category.",
        "If no title fits, say that there is no information.",
    ),
    "read_document": ("Read the whole document when the excerpt ends in dots.",),
    # of efc
    "find_customer": ("Identify the customer by e-mail before anything about orders.",),
    "get_customer": ("get_customer shows ids of addresses and payment methods.",),
    "get_order": (
        "get_order shows items with ids, address, payments and parcel.",
        "Item ids are in the order, such as O00001-1.",
    ),
    "list_orders": (
        "Without an order number, list the orders; the newest comes first.",
        "Filter list_orders by status to count.",
    ),
    "track_shipment": ("The carrier is known to track_shipment only.",),
    "search_products": (
        "Sort by price_ascending and limit the results to find the cheapest.",
        "Attributes must be equal exactly.",
    ),
    "get_product": ("get_product shows price, promotion price, stock and variants at once.",),
    "get_reviews": ("get_reviews counts the reviews by stars.",),
    "list_promotions": ("Promotions belong to categories and run between two dates.",),
    "check_coupon": (
        "check_coupon with an order tells the discount without applying it.",
        "Compare coupons before applying one.",
    ),
    "cancel_order": ("An order can be cancelled only before it ships.", "Pass on the customer's reason when cancelling."),
    "change_address": ("Change an address by the id of a saved one.",),
    "change_payment_method": ("Only pending orders can be paid another way.",),
    "apply_coupon": ("An order takes one coupon, and only while it is pending.",),
    "return_items": (
        "Return by item ids, with the condition the customer states.",
        "Opened electronics, beauty and toys do not come back.",
    ),
    "exchange_item": ("An exchange needs a payment method where the new product costs more.",),
    # of gfc
    "get_today": ("Ask for today's date before counting from it.",),
    "date_add": ("A negative number of days goes back in time.",),
    "days_between": ("days_between is negative when the end comes first.",),
    "weekday": ("weekday needs a date as YYYY-MM-DD.",),
    "convert_time": ("convert_time says whether the day changes.",),
    "get_weather": ("The weather is known from a week ago to two weeks ahead.",),
    "set_reminder": ("A reminder needs a date from today on; the time is 09:00 if none is given.",),
    "list_reminders": ("list_reminders shows the soonest first.",),
    "convert_unit": ("Units are written short: km, kg, lb, celsius.",),
    "convert_currency": ("Currencies are codes such as EUR; results are rounded to cents.",),
    "count_words": ("count_words counts words, characters and lines at once.",),
    "change_case": ("change_case knows upper, lower and title.",),
    "reverse_text": ("reverse_text turns characters or words around.",),
    "sort_lines": ("sort_lines can drop repeated lines.",),
    # of math
    "calculate": ("Put the whole calculation into one expression.", "Use round(x, 2) for money.", "15% of x is x * 15%."),
    "solve_linear": ("Write the equation with one variable, such as 3x + 4 = 19.",),
    "statistics": ("statistics knows sum, mean, median, min, max, range and variance.",),
}


def recall(rng: random.Random, used: Sequence[str], known: Sequence[str]) -> list[str]:
    """One to three entries: some about what is used, some about other things that the agent knows, in random order."""
    about = [text for name in dict.fromkeys(used) for text in STRATEGIES[name]]
    other = [text for name in known if name not in used for text in STRATEGIES[name]]
    count = rng.randint(1, 3)
    chosen = rng.sample(about, min(len(about), rng.randint(1, count)))
    chosen += rng.sample(other, min(len(other), count - len(chosen)))
    rng.shuffle(chosen)
    return chosen
