"""An episode's writes: touched rows over the read-only base. Rows are replaced, never changed in place."""

import hashlib
import json
from typing import Any, NamedTuple

from trainer.hima_ecom.base import Base, Product, Row
from trainer.hima_ecom.schema import COLUMNS, PRIMARY_KEY
from trainer.hima_ecom.spelling import plain

Touched = dict[tuple[str, str], Row | None]


class Snapshot(NamedTuple):
    """A state of an overlay: its touched rows and who has been identified."""

    touched: Touched
    customer_id: str | None


class Overlay:
    """The store as one episode sees it. Reads look at the touched rows first; None marks a deleted row."""

    def __init__(self, base: Base, customer_id: str | None) -> None:
        if customer_id is not None and base.row("customers", customer_id) is None:
            raise ValueError(f"customer_id: expected an existing customer or None, got {customer_id!r}")
        self.base = base
        self.customer_id = customer_id
        self._touched: Touched = {}

    @property
    def today(self) -> str:
        """The world's date."""
        return self.base.today

    def row(self, table: str, key: str) -> Row | None:
        """The row with that primary key, or None."""
        if (table, key) in self._touched:
            return self._touched[table, key]
        return self.base.row(table, key)

    def rows(self, table: str, column: str, value: str) -> list[Row]:
        """The rows where `column` equals `value`, by primary key."""
        found = self.base.rows(table, column, value)
        touched = {key: row for (name, key), row in self._touched.items() if name == table}
        if touched:
            primary = PRIMARY_KEY[table]
            found = [row for row in found if row[primary] not in touched]
            found += [row for row in touched.values() if row is not None and row[column] == value]
            found.sort(key=lambda row: row[primary])
        return found

    def all(self, table: str) -> list[Row]:
        """Every row of a small table, by primary key."""
        merged: dict[str, Row | None] = {row[PRIMARY_KEY[table]]: row for row in self.base.all(table)}
        merged |= {key: row for (name, key), row in self._touched.items() if name == table}
        return [row for _, row in sorted(merged.items()) if row is not None]

    def products(self) -> list[Product]:
        """The catalogue, by primary key."""
        touched = {key: row for (name, key), row in self._touched.items() if name == "products" and row is not None}
        found = self.base.products
        if not touched:
            return list(found.values())
        return [Product(touched.get(key, p.row), p.attributes, p.text) for key, p in found.items()]

    def put(self, table: str, row: Row) -> None:
        """Writes a whole row."""
        assert tuple(row) == COLUMNS[table], (table, row)
        self._touched[table, row[PRIMARY_KEY[table]]] = row

    def update(self, table: str, row: Row, **changes: Any) -> Row:
        """Writes `row` with some columns changed; returns the new row."""
        new = row | changes
        self.put(table, new)
        return new

    def delete(self, table: str, key: str) -> None:
        """Removes a row."""
        self._touched[table, key] = None

    def insert(self, table: str, prefix: str, **columns: Any) -> str:
        """Writes a new row and returns its key: a hash of its content, so that replays, and independent
        writes in another order, give equal states. A row of equal content gets the next hash that is free."""
        content = json.dumps(columns, sort_keys=True)
        number = 0
        while True:
            digest = hashlib.sha256(f"{table} {number} {content}".encode()).hexdigest()[:10]
            key = f"{prefix}-{digest}"
            if self.row(table, key) is None:
                break
            number += 1
        self.put(table, {PRIMARY_KEY[table]: key} | columns)
        return key

    def snapshot(self) -> Snapshot:
        """The state, to come back to."""
        return Snapshot(self._touched.copy(), self.customer_id)

    def restore(self, snapshot: Snapshot) -> None:
        """Back to a state; the snapshot stays good for more restores."""
        self._touched = snapshot.touched.copy()
        self.customer_id = snapshot.customer_id

    def changes(self) -> dict[str, dict[str, Row | None]]:
        """{table: {key: row, or None if deleted}}, sorted, of all rows that differ from the base."""
        changed: dict[str, dict[str, Row | None]] = {}
        for (table, key), row in sorted(self._touched.items(), key=lambda item: item[0]):
            if row != self.base.row(table, key):
                changed.setdefault(table, {})[key] = None if row is None else row.copy()
        return changed

    def state_hash(self) -> str:
        """SHA-256 of `changes`: equal for equal states of the store, the texts of reminders as `spelling.plain` has them."""
        changed: dict[str, Any] = dict(self.changes())
        if "reminders" in changed:
            rows = [{k: v for k, v in row.items() if k != "reminder_id"} for row in changed["reminders"].values() if row]
            changed["reminders"] = sorted(json.dumps(row | {"text": plain(row["text"])}, sort_keys=True) for row in rows)
        text = json.dumps(changed, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
