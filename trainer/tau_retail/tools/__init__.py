"""The sixteen tools of the retail domain, by topic; importing this registers them."""

from trainer.tau_retail.tools import account, catalog, delivered, general, pending

__all__ = ["account", "catalog", "delivered", "general", "pending"]
