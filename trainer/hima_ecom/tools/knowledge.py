"""The knowledge base: policies and answered product questions, by full-text search."""

from typing import Annotated, Any

from trainer.hima_ecom.overlay import Overlay
from trainer.hima_ecom.tools.registry import Arg, ToolError, shown, tool


@tool("qa")
def search_knowledge(
    store: Overlay,
    *,
    query: Annotated[str, Arg("words to look for; any of them may occur")],
    limit: Annotated[int, Arg("how many at most", minimum=1, maximum=10)] = 5,
) -> dict[str, Any]:
    """Search the store's policies and the answered questions about products; the best documents first."""
    return {"documents": store.base.search(query, limit)}


@tool("qa")
def read_document(store: Overlay, *, document_id: Annotated[str, Arg("id that search_knowledge gave")]) -> dict[str, Any]:
    """Read a whole document of the knowledge base."""
    policy = store.row("policies", document_id)
    if policy is not None:
        return {"document_id": document_id, "kind": "policy", "title": policy["title"], "body": policy["body"]}
    question = store.row("product_questions", document_id)
    if question is not None:
        return {
            "document_id": document_id,
            "kind": "product question",
            "product_id": question["product_id"],
            "title": question["question"],
            "body": question["answer"],
        }
    raise ToolError(f"no document {shown(document_id)}")
