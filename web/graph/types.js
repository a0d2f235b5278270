/**
 * The shapes that the canvas works on. The state is our document itself (docs/workflows.md), immutable and shared.
 *
 * @typedef {[string, string | number]} Link a node's id and the name, or number, of its output
 *
 * @typedef {object} NodeDoc a node as written
 * @property {string} class_type
 * @property {Record<string, any>} inputs literals and links by name
 * @property {{title?: string}} [_meta]
 * @property {"skip" | "mute"} [mode]
 *
 * @typedef {{bind: string[], doc?: string, title?: string, required?: boolean}} InputDoc a declared input
 * @typedef {{id: string, title: string, bounding: [number, number, number, number], color?: string}} Group
 * @typedef {{text: string, title?: string, position?: [number, number], size?: [number, number]}} Note
 * @typedef {"fixed" | "random" | "increment" | "decrement"} SeedMode what Run does to a seed before it submits
 * @typedef {{order?: string[], groups?: {title: string, inputs: string[]}[]}} FormDoc
 *
 * @typedef {object} Ui how a document looks; the engine never reads it
 * @property {Record<string, [number, number]>} [positions]
 * @property {Record<string, [number, number]>} [sizes]
 * @property {Record<string, boolean>} [collapsed]
 * @property {Record<string, string>} [colors]
 * @property {Group[]} [groups]
 * @property {Record<string, Note>} [notes]
 * @property {Record<string, SeedMode>} [seeds] by address, such as `3.seed`
 * @property {{x: number, y: number, zoom: number}} [viewport]
 * @property {FormDoc} [form]
 * @property {Record<string, Link>} [outside] of a copied part: the wires that came from elsewhere, by address
 *
 * @typedef {object} Doc a workflow
 * @property {number} nodegraph
 * @property {string} [name]
 * @property {string} [doc]
 * @property {Record<string, NodeDoc>} nodes
 * @property {Record<string, InputDoc>} [inputs]
 * @property {Record<string, string>} [outputs]
 * @property {any} [requires]
 * @property {Ui} [ui]
 *
 * @typedef {object} InputSpec an input of a node type
 * @property {string} name
 * @property {string} port
 * @property {boolean} [required]
 * @property {boolean} [link_only] only a link fits
 * @property {boolean} [is_list] takes all items of a list at once
 * @property {boolean} [is_lazy]
 * @property {string} [doc]
 * @property {any} [default]
 * @property {string[]} [choices]
 * @property {string} [file] kind of the file that it names
 * @property {number | bigint} [min] a BigInt beyond 2^53, as of seeds
 * @property {number | bigint} [max]
 * @property {number | bigint} [exclusive_min]
 * @property {number | bigint} [exclusive_max]
 * @property {number} [multiple_of]
 * @property {number} [step]
 * @property {number} [round]
 * @property {boolean} [multiline]
 * @property {string} [display]
 * @property {boolean} [control_after_generate] it is a seed
 * @property {boolean} [image_upload]
 * @property {boolean} [dynamic_prompts]
 * @property {string} [label_on]
 * @property {string} [label_off]
 * @property {string} [tooltip]
 *
 * @typedef {{name: string, port: string, is_list?: boolean}} OutputSpec
 *
 * @typedef {object} Spec a node type
 * @property {string} name
 * @property {string} title
 * @property {string} category
 * @property {string} doc
 * @property {"pure" | "sink" | "control"} kind
 * @property {string} [module]
 * @property {string | null} [workflow] the workflow of the library that it stands for
 * @property {InputSpec[]} inputs
 * @property {OutputSpec[]} outputs
 *
 * @typedef {{nodes: Map<string, Spec>, files: Record<string, string[]>, failures: Record<string, string>}} Specs
 *
 * @typedef {object} Problem what is wrong with a document, as the planner tells it
 * @property {string} where
 * @property {string} what
 * @property {string} [expected]
 * @property {string} [fix]
 * @property {string} [node]
 * @property {string} [class_type]
 * @property {string} [input]
 * @property {string} [kind]
 * @property {string} [type]
 */
export {};
