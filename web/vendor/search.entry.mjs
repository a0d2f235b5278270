// What search.js holds. Its types: search.d.ts.
export { default as fuzzysort } from "fuzzysort";
