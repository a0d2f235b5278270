// Makes flow.js, flow.css, layout.js, search.js, LICENSES and versions.json from the packages that package-lock.json pins.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? here;

/** One entry file as one minified module -> the names of the packages that went into it. */
const bundle = async (entry, outfile) => {
  const { metafile } = await build({
    absWorkingDir: here, entryPoints: [entry], outfile: join(out, outfile), bundle: true, minify: true, format: "esm",
    target: "es2022", charset: "utf8", legalComments: "none", metafile: true, logLevel: "warning",
    define: { "process.env.NODE_ENV": '"production"', "import.meta.env": '{"MODE":"production"}' },
  });
  const inside = Object.values(metafile.outputs).flatMap((made) => Object.entries(made.inputs));
  const used = inside.filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path);
  return used.map((path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter((name) => name);
};

const packaged = (name) => JSON.parse(readFileSync(join(here, "node_modules", name, "package.json"), "utf8"));

const licence = (name) => {
  const folder = join(here, "node_modules", name);
  const file = readdirSync(folder).find((entry) => /^licen[sc]e/i.test(entry));
  return readFileSync(join(folder, file), "utf8").trim().replaceAll("\r\n", "\n");
};

const made = ["flow", "layout", "search"];
const names = (await Promise.all(made.map((name) => bundle(`${name}.entry.mjs`, `${name}.js`)))).flat();
if (names.includes("@dagrejs/dagre")) names.push("@dagrejs/graphlib"); // comes inside dagre's own file
const packages = [...new Set(names)].sort();
writeFileSync(join(out, "flow.css"), readFileSync(join(here, "node_modules/@xyflow/react/dist/style.css")));
const texts = packages.map((name) => {
  const { version, license } = packaged(name);
  return `${name} ${version} (${license})\n${"=".repeat(72)}\n\n${licence(name)}\n`;
});
writeFileSync(join(out, "LICENSES"), texts.join("\n\n"));
const sha256 = (file) => createHash("sha256").update(readFileSync(join(out, file))).digest("hex");
const versions = {
  packages: Object.fromEntries(packages.map((name) => [name, { version: packaged(name).version, licence: packaged(name).license }])),
  sha256: Object.fromEntries(["flow.css", ...made.map((name) => `${name}.js`)].map((file) => [file, sha256(file)])),
};
writeFileSync(join(out, "versions.json"), JSON.stringify(versions, null, 2) + "\n");
