// The page of the API: lists the operations of /v1/openapi.json and tries them. All text goes in as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
let api = null;

/** An element with attributes (functions become listeners) and children. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function resolve(item) {
  while (item && item.$ref) item = item.$ref.split("/").slice(1).reduce((found, part) => found[part], api);
  return item || {};
}

const refName = (item) => (item && item.$ref ? item.$ref.split("/").pop() : "");

/** Text without the marks of Markdown, its lines joined to paragraphs. */
const plain = (text) => text.replaceAll("`", "").replace(/([^\n])\n(?!\n)/g, "$1 ");

/** A schema in a few words: `integer 1 to 500, default 50`. */
function inWords(item) {
  const name = refName(item);
  const schema = resolve(item);
  let kind = name || schema.type || "";
  if (schema.enum) kind = schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  else if ("const" in schema) kind = JSON.stringify(schema.const);
  else if (schema.anyOf) kind = schema.anyOf.map(inWords).join(" | ");
  else if (schema.type === "array") kind = `list of ${inWords(schema.items || {})}`;
  else if (schema.type === "object" && !name && schema.additionalProperties && schema.additionalProperties !== true)
    kind = `object of ${inWords(schema.additionalProperties)}`;
  const low = schema.minimum ?? schema.exclusiveMinimum, high = schema.maximum ?? schema.exclusiveMaximum;
  const limits = low !== undefined && high !== undefined ? `${low} to ${high}` : low !== undefined ? `from ${low}` : high !== undefined ? `up to ${high}` : "";
  const rest = [schema.format, limits, (schema.default && String(schema.default)) || schema.default === 0 || schema.default === false ? `default ${JSON.stringify(schema.default)}` : ""];
  return [kind || "any", ...rest.filter(Boolean)].join(", ");
}

function members(item) {
  const schema = resolve(item);
  if (schema.properties) return schema;
  if (schema.items) return members(schema.items);
  if (schema.anyOf) return schema.anyOf.map(members).find(Boolean);
  return schema.additionalProperties && schema.additionalProperties !== true ? members(schema.additionalProperties) : undefined;
}

/** A schema as a tree; branches are made when opened, so circles do no harm. */
function tree(item, name, isRequired, about) {
  const inner = members(item);
  const doc = about ?? resolve(item).description;
  const line = [
    name ? el("span", { class: isRequired ? "must" : "" }, name) : "", name ? " " : "",
    el("span", { class: "type" }, inWords(item)), doc && name ? el("span", { class: "doc" }, ` — ${doc.split("\n")[0]}`) : "",
  ];
  if (!inner) return el("div", {}, line);
  const fields = el("div", { class: "fields" });
  const fill = () => {
    if (fields.childElementCount) return;
    const required = new Set(inner.required || []);
    for (const [key, value] of Object.entries(inner.properties)) fields.append(tree(value, key, required.has(key), value.description));
  };
  return el("details", { toggle: fill }, el("summary", {}, line), fields);
}

/** A value that fits a schema, to begin with. */
function example(item, depth = 0) {
  const schema = resolve(item);
  if (schema.examples) return schema.examples[0];
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(schema.anyOf[0], depth);
  if (schema.type === "array") return schema.minItems ? [example(schema.items, depth + 1)] : [];
  if (schema.type === "object") {
    const found = {};
    const required = new Set(schema.required || []);
    if (depth < 3) for (const [key, value] of Object.entries(schema.properties || {})) {
      if (required.has(key) || (depth === 0 && resolve(value).examples)) found[key] = example(value, depth + 1);
    }
    return found;
  }
  return { integer: 0, number: 0, boolean: false, string: "" }[schema.type] ?? null;
}

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

/** What the fields of an operation say: address, headers, body. */
function requestOf(operation, form) {
  let path = operation.path;
  const query = new URLSearchParams(), headers = {};
  for (const { parameter, input } of form.parameters) {
    const value = input.value.trim();
    if (parameter.in === "path") {
      const whole = encodeURIComponent(value);
      path = path.replace(`{${parameter.name}}`, operation.path.startsWith("/v1/files/") ? whole.replaceAll("%2F", "/") : whole);
    } else if (value && parameter.in === "query") {
      const isList = resolve(parameter.schema).type === "array";
      for (const each of isList ? value.split(/[\s,]+/) : [value]) query.append(parameter.name, each);
    } else if (value) headers[parameter.name] = value;
  }
  if (form.accept && form.accept.value) headers.Accept = form.accept.value;
  if ($("token").value) headers.Authorization = `Bearer ${$("token").value}`;
  let body = null;
  const files = form.files.filter((field) => field.input.value);
  if (form.body && form.body.value.trim() && !files.length) {
    body = form.body.value;
    headers["Content-Type"] = "application/json";
  } else if (files.length) {
    body = new FormData();
    for (const { name, input } of files) body.append(name(), input.type === "file" ? input.files[0] : input.value);
    if (form.body && form.body.value.trim()) {
      for (const [key, value] of Object.entries(JSON.parse(form.body.value))) body.append(key, typeof value === "string" ? value : JSON.stringify(value));
    }
  }
  const search = query.toString();
  return { method: operation.method, url: path + (search ? `?${search}` : ""), headers, body };
}

function curlOf(request) {
  const words = ["curl"];
  if (request.method !== "GET") words.push("-X", request.method);
  words.push(quoted(location.origin + request.url));
  for (const [name, value] of Object.entries(request.headers)) words.push("\\\n  -H", quoted(`${name}: ${name === "Authorization" ? "Bearer $TOKEN" : value}`).replace(/^'(.*\$TOKEN.*)'$/, '"$1"'));
  if (request.body instanceof FormData) {
    for (const [name, value] of request.body) words.push("\\\n  -F", quoted(value instanceof File ? `${name}=@${value.name}` : `${name}=${value}`));
  } else if (request.body) words.push("\\\n  --json", quoted(request.body));
  if (request.headers.Accept && request.headers.Accept.startsWith("image/")) words.push("-o", `picture.${request.headers.Accept.slice(6)}`);
  return words.filter((word, place) => word !== "\\\n  -H" || !String(words[place + 1]).startsWith("'Content-Type")).join(" ").replaceAll(" 'Content-Type: application/json'", "");
}

async function send(operation, form, result) {
  const stop = new AbortController();
  const state = el("span", { class: "status" }, "…");
  const output = el("pre", {});
  const button = el("button", { type: "button", click: () => stop.abort() }, "Stop");
  result.replaceChildren(el("div", { class: "row" }, state, button), output);
  try {
    const { method, url, headers, body } = requestOf(operation, form);
    const start = performance.now();
    const response = await fetch(url, { method, headers, body, signal: stop.signal });
    state.textContent = `${response.status} ${response.statusText} · ${Math.round(performance.now() - start)} ms`;
    state.classList.toggle("bad", !response.ok);
    const kind = response.headers.get("Content-Type") || "";
    if (kind.startsWith("image/")) output.replaceWith(el("img", { src: URL.createObjectURL(await response.blob()), alt: "the picture of the answer" }));
    else if (kind.startsWith("text/event-stream")) await follow(response, output);
    else output.textContent = pretty(await response.text(), kind) || "(nothing)";
  } catch (error) {
    state.textContent = error.name === "AbortError" ? "stopped" : String(error.message || error);
    state.classList.add("bad");
  } finally {
    button.remove();
  }
}

async function follow(response, output) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    output.append(part.value);
    output.scrollTop = output.scrollHeight;
  }
}

function pretty(text, kind) {
  try {
    return kind.includes("json") ? JSON.stringify(JSON.parse(text), null, 2) : text.slice(0, 20000);
  } catch {
    return text;
  }
}

function field(parameter) {
  const schema = resolve(parameter.schema);
  const first = schema.examples ? schema.examples[0] : "";
  const choices = schema.enum || (schema.type === "boolean" ? ["true", "false"] : null);
  if (!choices) return el("input", { value: first, "aria-label": parameter.name, placeholder: String(schema.default ?? ""), spellcheck: "false" });
  const options = choices.map((each) => el("option", {}, each));
  return el("select", { "aria-label": parameter.name }, parameter.required ? "" : el("option", { value: "" }), options);
}

/** Everything about an operation, made when it is first opened. */
function inside(operation) {
  const form = { parameters: [], files: [], body: null, accept: null };
  const made = el("div", { class: "inside" });
  if (operation.description) made.append(el("p", {}, plain(operation.description)));
  const rows = (operation.parameters || []).map((parameter) => {
    const input = field(parameter);
    form.parameters.push({ parameter, input });
    const about = el("td", {}, plain(parameter.description || ""), parameter.description ? el("br") : "", el("span", { class: "type" }, `${parameter.in} · ${inWords(parameter.schema)}`));
    return el("tr", {}, el("td", { class: parameter.required ? "must" : "" }, parameter.name), about, el("td", { class: "field" }, input));
  });
  if (rows.length) made.append(el("h3", {}, "Parameters"), el("table", {}, rows));
  const content = operation.requestBody ? operation.requestBody.content : {};
  for (const [media, { schema }] of Object.entries(content)) {
    made.append(el("h3", {}, `Body · ${media}`), el("div", { class: "schema" }, tree(schema)));
    if (media === "application/json") {
      form.body = el("textarea", { "aria-label": "body", spellcheck: "false" });
      form.body.value = JSON.stringify(example(schema), null, 2);
      made.append(form.body);
    } else made.append(el("table", {}, formRows(resolve(schema), form)));
  }
  const kinds = Object.values(operation.responses).flatMap((answer) => Object.keys(answer.content || {})).filter((kind) => kind.startsWith("image/") && !kind.endsWith("*"));
  if (kinds.length) {
    form.accept = el("select", { "aria-label": "Accept" }, ["application/json", ...new Set(kinds)].map((kind) => el("option", {}, kind)));
    made.append(el("div", { class: "row" }, "Answer as ", form.accept));
  }
  const curl = el("pre", {}), result = el("div", { class: "result" });
  const show = () => {
    try {
      curl.textContent = curlOf(requestOf(operation, form));
    } catch (error) {
      curl.textContent = `the body is not JSON: ${error.message}`;
    }
  };
  made.addEventListener("input", show);
  made.addEventListener("change", show);
  made.append(el("h3", {}, "Request"), curl,
    el("div", { class: "row" }, el("button", { type: "button", class: "go", click: () => send(operation, form, result) }, "Send"), el("span", { class: "note" }, "as it stands above, to this very server")), result,
    el("h3", {}, "Answers"), ...Object.entries(operation.responses).map(([status, item]) => answer(status, item)));
  show();
  return made;
}

/** Fields of a form: all of them, or those for files alone where a JSON body has the rest. */
function formRows(schema, form) {
  const rows = [];
  for (const [name, item] of form.body ? [] : Object.entries(schema.properties || {})) {
    const input = item.format === "binary" ? el("input", { type: "file", "aria-label": name }) : field({ name, schema: item });
    form.files.push({ name: () => name, input });
    rows.push(el("tr", {}, el("td", { class: (schema.required || []).includes(name) ? "must" : "" }, name), el("td", {}, item.description || ""), el("td", { class: "field" }, input)));
  }
  if (schema.additionalProperties) {
    const name = el("input", { placeholder: "name of an input", "aria-label": "name of an input" });
    const input = el("input", { type: "file", "aria-label": "its file" });
    form.files.push({ name: () => name.value || "image", input });
    rows.push(el("tr", {}, el("td", {}, name), el("td", {}, "a file for an input; the JSON above goes along"), el("td", { class: "field" }, input)));
  }
  return rows;
}

function answer(status, item) {
  const found = resolve(item);
  const made = el("div", { class: "answer" }, el("code", { class: status < 400 ? "GET" : "DELETE" }, status), plain(found.description));
  for (const [media, { schema }] of Object.entries(found.content || {})) {
    if (status < 400) made.append(el("div", { class: "schema" }, el("span", { class: "type" }, media), schema ? tree(schema) : ""));
  }
  return made;
}

function card(operation) {
  const details = el("details", { toggle: () => {
    if (details.open && details.childElementCount === 1) details.append(inside(operation));
  } }, el("summary", {}, el("span", { class: `badge ${operation.method}` }, operation.method), el("span", { class: "path" }, operation.path),
    el("span", { class: "about" }, plain(operation.summary)), el("span", { class: "scope", title: "scope of the token" }, operation["x-scope"])));
  return el("article", { id: operation.operationId }, details);
}

function build() {
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ ...operation, path, method: method.toUpperCase() })));
  const main = $("main"), list = $("list");
  $("version").textContent = api.info.version;
  main.replaceChildren();
  for (const tag of api.tags) {
    const own = operations.filter((operation) => operation.tags.includes(tag.name));
    main.append(el("h2", { id: `tag-${tag.name}` }, tag.name[0].toUpperCase() + tag.name.slice(1)), el("p", { class: "lead" }, tag.description), ...own.map(card));
    const links = own.map((operation) => el("a", { href: `#${operation.operationId}`, "data-words": `${operation.method} ${operation.path} ${operation.summary}`.toLowerCase() },
      el("span", { class: `badge ${operation.method}` }, operation.method), operation.path.replace("/v1/", "")));
    list.append(el("section", {}, el("h3", {}, tag.name), links));
  }
  main.append(el("h2", { id: "problems" }, "Errors"), el("p", { class: "lead" }, "Every error is application/problem+json; its type names one of these."));
  for (const [name, problem] of Object.entries(api["x-problems"])) {
    main.append(el("article", { class: "problem", id: `problem-${name}` }, el("code", { class: "DELETE" }, String(problem.status)), ` ${problem.title} · `, el("code", {}, name), el("p", { class: "note" }, plain(problem.description))));
  }
  list.append(el("section", {}, el("h3", {}, "errors"), el("a", { href: "#problems", "data-words": "errors problems" }, "What they mean")));
}

function openTarget() {
  const target = location.hash.length > 1 ? $(decodeURIComponent(location.hash.slice(1))) : null;
  if (!target) return;
  const details = target.querySelector(":scope > details");
  if (details) details.open = true;
  target.scrollIntoView();
  document.querySelector("nav").classList.remove("open");
}

function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of $("list").children) {
    let isEmpty = true;
    for (const link of section.querySelectorAll("a")) {
      link.hidden = !words.every((word) => link.dataset.words.includes(word));
      link.style.display = link.hidden ? "none" : "";
      isEmpty = isEmpty && link.hidden;
    }
    section.hidden = isEmpty;
  }
}

async function start() {
  $("token").value = sessionStorage.getItem("nodegraph-token") || "";
  $("token").addEventListener("change", () => sessionStorage.setItem("nodegraph-token", $("token").value));
  $("token").form.addEventListener("submit", (event) => event.preventDefault());
  $("filter").addEventListener("input", filter);
  $("menu").addEventListener("click", () => $("menu").setAttribute("aria-expanded", document.querySelector("nav").classList.toggle("open")));
  addEventListener("hashchange", openTarget);
  const response = await fetch("/v1/openapi.json");
  if (!response.ok) throw new Error(`the document cannot be read: ${response.status}`);
  api = await response.json();
  build();
  openTarget();
}

start().catch((error) => $("main").replaceChildren(el("p", { class: "status bad" }, error.message)));
