"""ComfyUI's queue and history as text, straight from the database: what is JSON there is not parsed on the way."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from server.comfy_messages import meta_of

ENTRY = "id, number, graph, extra, targets, status, outputs, messages"


def queue(database: sqlite3.Connection) -> str:
    """The body of GET /queue."""
    running = database.execute(f"select {ENTRY} from runs where status = 'running' order by started")
    waiting = database.execute(f"select {ENTRY} from runs where status = 'queued' order by priority desc, number, seq")
    lists = (", ".join(map(_prompt, rows)) for rows in (running, waiting))
    return '{{"queue_running": [{}], "queue_pending": [{}]}}'.format(*lists)


def history(database: sqlite3.Connection, most: int | None, offset: int) -> str:
    """The body of GET /history.

    Args:
        most: how many runs; None is all.
        offset: the first of them, counted from the oldest; below 0 the last `most` are meant.
    """
    query = f"select {ENTRY} from runs where finished is not null and messages is not null order by finished, seq"
    if most is None:
        rows = database.execute(f"{query} limit -1 offset ?", (max(0, offset),)).fetchall()
    elif offset >= 0:
        rows = database.execute(f"{query} limit ? offset ?", (max(0, most), offset)).fetchall()
    else:
        newest = query.replace("order by finished, seq", "order by finished desc, seq desc")
        rows = database.execute(f"{newest} limit ?", (max(0, most),)).fetchall()[::-1]
    return "{" + ", ".join(map(_entry, rows)) + "}"


def one_history(database: sqlite3.Connection, run: str) -> str:
    """The body of GET /history/{id}: empty for a run that is unknown or not over."""
    query = f"select {ENTRY} from runs where id = ? and finished is not null and messages is not null"
    return "{" + ", ".join(map(_entry, database.execute(query, (run,)))) + "}"


def _prompt(row: sqlite3.Row) -> str:
    number = row["number"]
    whole = int(number) if number == int(number) else number
    return f"[{whole}, {json.dumps(row['id'])}, {row['graph']}, {row['extra']}, {row['targets'] or '[]'}]"


def _entry(row: sqlite3.Row) -> str:
    outputs: dict[str, Any] = json.loads(row["outputs"] or "{}")
    is_success = row["status"] == "success"
    status = (
        f'{{"status_str": "{"success" if is_success else "error"}", "completed": {json.dumps(is_success)},'
        f' "messages": {row["messages"]}}}'
    )
    meta = json.dumps(meta_of(outputs, json.loads(row["graph"])))
    return (
        f'{json.dumps(row["id"])}: {{"prompt": {_prompt(row)}, "outputs": {row["outputs"] or "{}"}, "status": {status},'
        f' "meta": {meta}}}'
    )
