"""The store as one episode sees it: touched rows over a base that all episodes share and none changes."""

import hashlib
import json
from typing import Any, Literal

Row = dict[str, Any]
Table = Literal["users", "orders", "products"]
Touched = dict[tuple[Table, str], Row]


class Base:
    """The rows of the folder, by table and key, with two indices over the users. Read-only by convention: rows are replaced
    in a World, never changed in place."""

    def __init__(self, users: dict[str, Row], orders: dict[str, Row], products: dict[str, Row]) -> None:
        self.tables: dict[Table, dict[str, Row]] = {"users": users, "orders": orders, "products": products}
        # No tool changes an email or a name; in the order of the file, as the first fit counts.
        self.by_email: dict[str, str] = {}
        self.by_name: dict[tuple[str, str], list[str]] = {}
        for user_id, user in users.items():
            self.by_email.setdefault(user["email"].lower(), user_id)
            name = (user["name"]["first_name"].lower(), user["name"]["last_name"].lower())
            self.by_name.setdefault(name, []).append(user_id)


class World:
    """An overlay of touched rows."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self._touched: Touched = {}

    def row(self, table: Table, key: str) -> Row | None:
        """The row with that key, or None."""
        touched = self._touched.get((table, key))
        return self.base.tables[table].get(key) if touched is None else touched

    def keys(self, table: Table) -> list[str]:
        """The keys of a table; episodes add none."""
        return list(self.base.tables[table])

    def put(self, table: Table, key: str, row: Row) -> None:
        """Writes a whole row in the place of one that exists."""
        assert key in self.base.tables[table], (table, key)
        self._touched[table, key] = row

    def snapshot(self) -> Touched:
        """The state, to come back to; its cost is that of the touched rows' number."""
        return self._touched.copy()

    def restore(self, state: Touched) -> None:
        """Back to a state of any world over the same base; it stays good for more restores."""
        self._touched = state.copy()

    def changes(self) -> dict[str, dict[str, Row]]:
        """{table: {key: row}} of the rows that differ from the base, sorted by key."""
        changed: dict[str, dict[str, Row]] = {}
        for (table, key), row in sorted(self._touched.items(), key=lambda item: item[0]):
            if row != self.base.tables[table][key]:
                changed.setdefault(table, {})[key] = row
        return changed

    def state_hash(self) -> str:
        """SHA-256 of `changes`: equal exactly for equal states of the store."""
        text = json.dumps(_plain(self.changes()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """62.0 as 62: equal numbers are written equally."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
