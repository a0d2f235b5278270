"""Pictures of the starter model as it makes them, before they are enlarged."""

from __future__ import annotations

from nodegraph import Function, Session


def small(session: Session) -> Function:
    """The workflow `text_to_image` as a function, up to what the VAE gives: `image`, [B, 128, 128, 3] by default."""
    document = session.open("text_to_image")
    workflow = document.workflow.model_copy(update={"outputs": {"image": "8.IMAGE"}})
    return Function(session, workflow, document.origin)
