"""Word lists of people and places: names, streets, cities with countries and fixed offsets, carriers."""

from typing import NamedTuple


class City(NamedTuple):
    """A city, its country, and its offset from UTC in minutes: standard time all year, no time zone data."""

    name: str
    country: str
    utc_offset: int
    celsius: int  # a usual day in June


FIRST_NAMES = (
    "Amara", "Benoit", "Carmen", "Daichi", "Elena", "Farid", "Grace", "Hugo", "Ingrid", "Jamal", "Keiko", "Liam", "Mei",
    "Nadia", "Oscar", "Priya", "Quentin", "Rosa", "Samuel", "Tamar", "Ulrich", "Valeria", "Wei", "Ximena", "Yusuf",
    "Zoe", "Anders", "Bianca", "Chidi", "Dalia", "Emeka", "Fiona",
)  # fmt: skip
LAST_NAMES = (
    "Abbott", "Becker", "Castillo", "Dubois", "Eriksen", "Fischer", "Garcia", "Haddad", "Ivanova", "Jansen", "Kowalski",
    "Lindqvist", "Moreau", "Nakamura", "Okafor", "Petrov", "Quinn", "Rossi", "Silva", "Tanaka", "Usman", "Vargas",
    "Weber", "Xu", "Yamada", "Zhang", "O'Neill", "Patel", "Romero", "Schmidt",
)  # fmt: skip
STREETS = (
    "Maple Street", "Oak Avenue", "Harbour Road", "Mill Lane", "Station Road", "Cedar Drive", "Hill Street", "Park Avenue",
    "Church Lane", "Lake View", "Orchard Close", "Bridge Street", "Garden Row", "Sunset Boulevard", "North Square",
)  # fmt: skip
CITIES = (
    City("New York", "United States", -300, 25),
    City("Chicago", "United States", -360, 24),
    City("Denver", "United States", -420, 26),
    City("Los Angeles", "United States", -480, 23),
    City("Toronto", "Canada", -300, 22),
    City("Vancouver", "Canada", -480, 19),
    City("London", "United Kingdom", 0, 20),
    City("Manchester", "United Kingdom", 0, 18),
    City("Berlin", "Germany", 60, 22),
    City("Munich", "Germany", 60, 21),
    City("Paris", "France", 60, 23),
    City("Lyon", "France", 60, 25),
    City("Tokyo", "Japan", 540, 25),
    City("Osaka", "Japan", 540, 26),
    City("Shanghai", "China", 480, 27),
    City("Beijing", "China", 480, 29),
    City("Sydney", "Australia", 600, 16),
    City("Mumbai", "India", 330, 31),
    City("Sao Paulo", "Brazil", -180, 19),
    City("Cairo", "Egypt", 120, 33),
)
CARRIERS = (
    "NorthPost", "SwiftParcel", "BlueVan", "Alpine Express", "Harbour Freight", "Kestrel Logistics", "Meridian Mail", "OwlPost",
    "Pinecone Couriers", "Redline Delivery", "TransLumen", "Ziggurat Cargo",
)  # fmt: skip
ADDRESS_LABELS = ("home", "work", "parents")
EMAIL_HOSTS = ("example.com", "example.org", "example.net")
CONDITIONS = ("sunny", "partly cloudy", "cloudy", "rain", "thunderstorm", "windy")
