"""The OpenAPI document: true to the operations, and the same every time."""

from __future__ import annotations

import asyncio
import json
import re

from server.problems import SORTS
from server.v1 import routes
from server.v1.openapi import document_of, text_of
from server.v1.operation import path_of
from server.v1.table import OPERATIONS, STATIC
from tests.server.v1.serving import served


def references(value):
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "$ref":
                yield item
            else:
                yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_every_reference_of_the_document_leads_somewhere():
    document = document_of(OPERATIONS)
    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        place = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_every_route_is_in_the_document_and_every_operation_has_its_errors():
    document = document_of(OPERATIONS)
    known = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    declared = {(route.method, re.sub(r":[^}]*\}", "}", route.path)) for route in routes() if route.method != "*"}
    pages = {("GET", f"/v1/{name}") for name in ("openapi.json", "docs", "docs/docs.css", "docs/docs.js")}
    assert declared - known == pages and known <= declared
    for one in OPERATIONS:
        item = document["paths"][path_of(one)][one.method.lower()]
        assert {"401", "403", "422", "429"} <= set(item["responses"]), one.name
        assert ("{" in one.path) == any(each["in"] == "path" for each in item.get("parameters", ())), one.name
        assert ("requestBody" in item) == ({"400", "413", "415"} <= set(item["responses"])), one.name
        assert item["summary"] and item["operationId"] == one.name


def test_parameters_have_their_limits():
    document = document_of(OPERATIONS)
    found = {each["name"]: each for each in document["paths"]["/v1/runs"]["get"]["parameters"]}
    assert found["limit"]["schema"] == {"default": 50, "minimum": 1, "maximum": 500, "type": "integer"}
    assert found["cursor"]["schema"] == {"pattern": "^[0-9]{1,18}$", "type": "string"}
    save = document["paths"]["/v1/workflows/{name}"]["put"]["parameters"]
    assert [(each["name"], each["in"], each["required"]) for each in save] == [
        ("name", "path", True), ("If-Match", "header", False), ("If-None-Match", "header", False),
    ]  # fmt: skip


def test_the_document_is_the_same_every_time():
    text_of.cache_clear()
    first = text_of(OPERATIONS)
    text_of.cache_clear()
    assert text_of(OPERATIONS) == first
    assert json.loads(first.body)["openapi"] == "3.1.0"


def test_the_document_and_its_page_are_served_and_nothing_of_the_page_is_inline(tmp_path):
    async def story():
        async with served(tmp_path) as api:
            status, headers, document = await api.whole("GET", "/v1/openapi.json")
            assert (status, headers["Content-Type"]) == (200, "application/json")
            assert set(document["x-problems"]) == set(SORTS)
            again = await api.whole("GET", "/v1/openapi.json", headers={"If-None-Match": headers["ETag"]})
            assert again[0] == 304
            kinds = {"docs": "text/html", "docs/docs.css": "text/css", "docs/docs.js": "text/javascript"}
            for place, kind in kinds.items():
                status, headers, _ = await api.whole("GET", f"/v1/{place}")
                assert (status, headers["Content-Type"].partition(";")[0]) == (200, kind)
                assert "'unsafe-inline'" not in headers["Content-Security-Policy"]

    asyncio.run(story())
    page = (STATIC / "docs.html").read_text()
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", page)
