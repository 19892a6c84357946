// Turns a Handlebars template into a module at build time: its tree becomes one function that puts
// the text together. So nothing of Handlebars is shipped, and no template is compiled at boot. Of
// the language there is what our templates use: {{name}}, {{this}}, #each, #if and #unless.
import { readFileSync } from 'node:fs';
import Handlebars from 'handlebars';

/**
 * @param {string} name
 * @param {hbs.AST.Node} node
 * @returns {never}
 */
function refuse(name, node) {
  throw new Error(`templates cannot use ${name}: line ${node.loc.start.line}`);
}

/**
 * The expression for a value; one that the view has not is an error, as in Handlebars' strict mode.
 * @param {hbs.AST.Expression} expression
 * @param {string} context
 */
function valueOf(expression, context) {
  const path = /** @type {hbs.AST.PathExpression} */ (expression);
  if (path.type !== 'PathExpression' || path.data || path.depth > 0) refuse('this value', path);
  if (path.parts.length === 0) return context;
  if (path.parts.length > 1) refuse('a path', path);
  const name = JSON.stringify(path.parts[0]);
  return `(${context}[${name}] ?? missing(${name}))`;
}

/**
 * @param {hbs.AST.BlockStatement} block
 * @param {string} context
 * @returns {string}
 */
function blockCode(block, context) {
  const [parameter, ...others] = block.params;
  if (parameter === undefined || others.length > 0 || block.inverse) refuse('such a block', block);
  const value = valueOf(parameter, context);
  const kind = /** @type {hbs.AST.PathExpression} */ (block.path).original;
  if (kind === 'each') {
    const item = `${context}1`;
    // Not "for of", which makes an iterator and an object for each item where nothing is compiled.
    return `{\nconst list = ${value};\nfor (let at = 0; at < list.length; at++) {
const ${item} = list[at];\n${code(block.program, item)}}\n}\n`;
  }
  if (kind !== 'if' && kind !== 'unless') refuse(`#${String(kind)}`, block);
  return `if (${kind === 'if' ? '' : '!'}holds(${value})) {\n${code(block.program, context)}}\n`;
}

/**
 * Statements and one more. What only appends to `text` is put to what does so before it: fewer steps
 * where nothing is compiled. Two values side by side might be numbers.
 * @param {string} code
 * @param {string} statement
 */
function appended(code, statement) {
  const isText = /(?:^|\n)text \+= [^\n]*;\n$/.test(code) && statement.startsWith('text += ');
  const isJoined = isText && (code.endsWith('";\n') || statement.startsWith('text += "'));
  return isJoined
    ? `${code.slice(0, -2)} + ${statement.slice('text += '.length)}`
    : code + statement;
}

/**
 * Statements that append to `text`.
 * @param {hbs.AST.Program} program
 * @param {string} context name of the variable that has what `this` is
 * @returns {string}
 */
function code(program, context) {
  return program.body
    .map((node) => {
      if (node.type === 'ContentStatement') {
        const { value } = /** @type {hbs.AST.ContentStatement} */ (node);
        return value === '' ? '' : `text += ${JSON.stringify(value)};\n`;
      }
      if (node.type === 'BlockStatement') {
        return blockCode(/** @type {hbs.AST.BlockStatement} */ (node), context);
      }
      const mustache = /** @type {hbs.AST.MustacheStatement} */ (node);
      if (node.type !== 'MustacheStatement' || mustache.params.length > 0) refuse(node.type, node);
      return `text += ${valueOf(/** @type {hbs.AST.Expression} */ (mustache.path), context)};\n`;
    })
    .reduce(appended, '');
}

/**
 * @param {string} source the template's text
 * @returns {string} an ES module whose default export renders the template
 */
export function templateModule(source) {
  // Values are put in as they are: they were quoted before, by model/unit-syntax.ts.
  return `function missing(name) {
  throw new Error('a template needs "' + name + '"');
}
function holds(value) {
  return typeof value === 'object' ? value.length > 0 : Boolean(value);
}
export default function render(view) {
let text = '';
${code(Handlebars.parse(source), 'view')}return text;
}
`;
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
