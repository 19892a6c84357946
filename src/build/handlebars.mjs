// Turns a Handlebars template into a module at build time, so that only Handlebars' small
// runtime is shipped and no template is compiled at boot.
import { readFileSync } from 'node:fs';
import Handlebars from 'handlebars';

/**
 * @param {string} source the template's text
 * @returns {string} an ES module whose default export renders the template
 */
function templateModule(source) {
  // noEscape: "=" in a unit file must not become an entity; values are quoted before (plan.ts).
  const spec = Handlebars.precompile(source, {
    strict: true,
    noEscape: true,
    knownHelpersOnly: true,
  });
  return `import runtime from 'handlebars/runtime.js';\nexport default runtime.template(${String(spec)});\n`;
}

/** @type {import('esbuild').Plugin} */
export const esbuildHandlebars = {
  name: 'handlebars',
  setup(build) {
    build.onLoad({ filter: /\.hbs$/ }, ({ path }) => ({
      contents: templateModule(readFileSync(path, 'utf8')),
      loader: 'js',
    }));
  },
};

/** The same for vitest. */
export const viteHandlebars = {
  name: 'handlebars',
  /** @type {'pre'} */
  enforce: 'pre',
  /**
   * @param {string} code
   * @param {string} id
   */
  transform(code, id) {
    return id.endsWith('.hbs') ? { code: templateModule(code), map: null } : undefined;
  },
};
