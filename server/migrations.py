"""The schema of the database, as the steps that led to it. A step that was released is never changed."""

from __future__ import annotations

FIRST = """
create table runs(
    id text primary key,
    seq integer not null unique,
    number real not null,
    is_given integer not null default 0,
    priority integer not null default 0,
    status text not null,
    name text not null default '',
    client text not null default '',
    owner text not null default '',
    scope text not null default '',
    graph text not null,
    document text,
    extra text not null default '{}',
    targets text,
    pictures text not null default '{}',
    words text not null default '',
    created real not null,
    started real,
    finished real,
    leases integer not null default 0,
    deaths integer not null default 0,
    worker text,
    is_cancelled integer not null default 0,
    error text,
    outputs text,
    result text,
    nodes text,
    messages text,
    events blob,
    retry_of text
) without rowid;
create index runs_waiting on runs(status, priority desc, number, seq);
create index runs_of_client on runs(status, client, number);
create index runs_of_owner on runs(status, owner, number);
create index runs_of_name on runs(name, status, seq);
create index runs_finished on runs(finished);
create table files(
    run text not null references runs(id) on delete cascade,
    node text not null,
    type text not null,
    subfolder text not null,
    filename text not null,
    format text not null,
    nbytes integer not null,
    position integer not null
);
create index files_run on files(run);
create index files_place on files(type, subfolder, filename);
create table keys(
    owner text not null,
    key text not null,
    body text not null,
    run text not null,
    created real not null,
    primary key(owner, key)
) without rowid;
create index keys_created on keys(created);
create table tokens(
    name text primary key,
    hash text not null unique,
    scopes text not null,
    rate real,
    max_upload integer,
    created real not null,
    used real
) without rowid;
create table drafts(
    revision integer primary key autoincrement,
    owner text not null,
    id text not null,
    name text not null,
    workflow text,
    base text,
    nodes integer not null,
    modified real not null,
    document text not null,
    unique(owner, id)
);
create table versions(
    id integer primary key autoincrement,
    name text not null,
    saved real not null,
    nodes integer not null,
    etag text not null,
    document blob not null
);
create index versions_of_name on versions(name, id);
create table facts(name text primary key, value text not null) without rowid
"""
"""`runs`: `graph` is the workflow as ComfyUI has it, `document` the whole of ours where there is more to it;
`pictures` the texts that pictures carry besides, `words` what searches look at. `keys`: idempotency. `facts`: odd
single values. `drafts`: no revision is given twice. `versions`: what own workflows were before a save or a delete."""

MIGRATIONS = (FIRST,)
