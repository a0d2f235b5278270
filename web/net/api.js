/** Calls of the server's API. A refusal is thrown with its problem in words. */

import { parse, stringify } from "./exact.js";

/** @import {Problem} from "../graph/types.js" */

/** What the server refused, or that it was not reached (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} message
   * @param {{type?: string, title?: string, fix?: string, problems?: Problem[]}} [problem]
   */
  constructor(status, message, problem = {}) {
    super(message);
    this.status = status;
    this.problem = problem;
    this.problems = problem.problems ?? [];
    this.kind = problem.type?.split("problem-")[1] ?? "";
  }
}

/**
 * @typedef {object} Ask
 * @property {any} [json] a body
 * @property {FormData} [form] a body
 * @property {Record<string, string>} [headers]
 * @property {Record<string, string | number | string[] | undefined>} [query]
 * @property {AbortSignal} [signal]
 */

/**
 * Asks the server -> the JSON of its answer and its ETag; null where it has no body.
 * @param {string} method
 * @param {string} path
 * @param {Ask} [ask]
 * @returns {Promise<{body: any, etag: string, status: number}>}
 */
export async function call(method, path, { json, form, headers = {}, query = {}, signal } = {}) {
  const body = json === undefined ? form : stringify(json);
  if (json !== undefined) headers = { "Content-Type": "application/json", ...headers };
  const answer = await fetch(withQuery(path, query), { method, body, signal, headers })
    .catch((error) => {
      if (signal?.aborted) throw error;
      throw new ApiError(0, "The server does not answer.");
    });
  const text = await answer.text().catch((error) => {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server's answer broke off.");
  });
  const found = /json/.test(answer.headers.get("Content-Type") ?? "") && text ? parse(text) : null;
  if (answer.ok) return { body: found, etag: answer.headers.get("ETag") ?? "", status: answer.status };
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname)}`);
  throw new ApiError(answer.status, found?.detail ?? (text.length < 400 && !text.startsWith("<") && text || `${answer.status} ${answer.statusText}`), found ?? {});
}

/**
 * Reads something of the server.
 * @param {string} path
 * @param {Ask["query"]} [query]
 */
export async function get(path, query) {
  return (await call("GET", path, { query })).body;
}

/**
 * Sends JSON to the server.
 * @param {string} path
 * @param {any} [json]
 */
export async function post(path, json) {
  return (await call("POST", path, { json })).body;
}

/**
 * The path of a workflow of the library.
 * @param {string} name
 * @param {string} [rest]
 */
export function workflowPath(name, rest = "") {
  return `/v1/workflows/${encodeURIComponent(name)}${rest}`;
}

/**
 * @param {string} path
 * @param {NonNullable<Ask["query"]>} query
 */
function withQuery(path, query) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value ?? []].flat()) found.append(name, String(item));
  }
  return found.size ? `${path}?${found}` : path;
}
