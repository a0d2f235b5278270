// The types of search.js.
export { default as fuzzysort } from "fuzzysort";
