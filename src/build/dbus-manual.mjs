// Writes what org.lockerd1(5) says of the interfaces, from the comments in org.lockerd1.xml: what is between
// the lines ".\" From org.lockerd1.xml: INTERFACE" and ".\" End" of the page.
// Usage: node src/build/dbus-manual.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const project = fileURLToPath(new URL('../..', import.meta.url));
const pagePath = `${project}src/man/org.lockerd1.5`;
const interfacesPath = `${project}units/dbus/org.lockerd1.xml`;

/**
 * @typedef {{ name: string, type: string, direction: string }} Argument
 * @typedef {{
 *   kind: 'interface' | 'method' | 'property' | 'signal',
 *   name: string,
 *   type: string,
 *   emits: string,
 *   args: Argument[],
 *   comment: string[],
 * }} Element
 * @typedef {Element & { members: Element[] }} Interface
 * @typedef {{
 *   args: Record<string, string>,
 *   labels: Record<string, string>,
 *   paragraphs: string[],
 * }} Documentation
 */

const emitsChangedSignal = 'org.freedesktop.DBus.Property.EmitsChangedSignal';

/** Paths of the objects that have an interface, by the last part of its name. */
const objectPaths = {
  Manager: '/org/lockerd1',
  Container: '/org/lockerd1/container/NAME',
  Locker: '/org/lockerd1/locker/NAME',
  Job: '/org/lockerd1/job/NUMBER',
};

/** Paragraphs that begin with one of these have a meaning of their own. */
const labels = ['Action', 'Details', 'Errors'];

/**
 * The interfaces of org.lockerd1.xml, each with its members in their order.
 * @param {string} xml
 */
export function readInterfaces(xml) {
  /** @type {Interface[]} */
  const interfaces = [];
  /** @type {string[]} */
  let comment = [];
  /** @type {Element | undefined} */
  let member;
  for (const [, remark, tag = '', text = ''] of xml.matchAll(
    /<!--([^]*?)-->|<([a-z]+)((?:\s+[a-z]+="[^"]*")*)\s*\/?>/g,
  )) {
    if (remark !== undefined) {
      comment = remark.split('\n').map((line) => line.trim());
      continue;
    }
    const attributes = Object.fromEntries(
      [...text.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, key, value]) => [key, value ?? '']),
    );
    const { name = '', type = '', direction = '', value = '' } = attributes;
    if (tag === 'arg') member?.args.push({ name, type, direction });
    if (tag === 'annotation' && name === emitsChangedSignal && member) member.emits = value;
    if (tag !== 'interface' && tag !== 'method' && tag !== 'property' && tag !== 'signal') continue;
    /** @type {Element} */
    const element = { kind: tag, name, type, emits: '', args: [], comment };
    comment = [];
    if (tag === 'interface') interfaces.push({ ...element, members: [] });
    else interfaces.at(-1)?.members.push((member = element));
  }
  return interfaces;
}

/**
 * What a comment says. @throws Error for one that is missing, or says something of another element
 * @param {Element} element
 * @returns {Documentation}
 */
export function readComment({ kind, name, args, comment }) {
  const lines = comment.join('\n').trim().split('\n');
  if (lines.shift() !== `${name}:`) throw new Error(`${kind} ${name} has no comment of its own`);
  /** @type {Documentation} */
  const found = { args: {}, labels: {}, paragraphs: [] };
  const [first = '', ...others] = lines.join('\n').split(/\n{2,}/);
  const hasArguments = first.startsWith('@');
  for (const part of hasArguments ? first.split(/\n(?=@)/) : []) {
    const [, key = '', text = ''] = /^@([a-z_]+): ([^]+)$/.exec(part) ?? [];
    found.args[key] = text.replaceAll('\n', ' ');
  }
  for (const part of hasArguments ? others : [first.trim(), ...others]) {
    const [, label, text] = /^([A-Z][a-z]+): (.*)$/.exec(part.split('\n')[0] ?? '') ?? [];
    if (label === undefined || text === undefined || !labels.includes(label)) {
      found.paragraphs.push(part);
      continue;
    }
    for (const line of part.split('\n')) {
      const [, key = '', value = ''] = /^([A-Z][a-z]+): (.*)$/.exec(line) ?? [];
      found.labels[key] = value;
    }
  }
  const expected = kind === 'interface' ? ['short_description'] : args.map((arg) => arg.name);
  if (Object.keys(found.args).join() !== expected.join()) {
    throw new Error(`the comment of ${kind} ${name} has to describe: ${expected.join(', ')}`);
  }
  return found;
}

const trailing = /^(.*?)([.,;:)]*)$/;

/**
 * A word in backquotes, or an Xr of a page, as a macro with the punctuation behind it.
 * @param {string} token
 * @param {ReadonlyMap<string, string>} macros of the members by their names
 */
function macroFor(token, macros) {
  const code = /^`([^`]+)`([.,;:)]*)$/.exec(token);
  if (code) {
    const [, text = '', end = ''] = code;
    const macro = macros.get(text) ?? (text.startsWith('/') ? 'Pa' : 'Ql');
    return [`.${macro} ${text}`, ...end].join(' ');
  }
  const page = /^([a-z][a-z0-9.-]*)\(([1-8])\)([.,;:)]*)$/.exec(token);
  if (page) return [`.Xr ${page[1] ?? ''} ${page[2] ?? ''}`, ...(page[3] ?? '')].join(' ');
  const [, word = '', end = ''] = trailing.exec(token) ?? [];
  return word === 'OPTIONS' || word === 'LIMITS' ? [`.Sx ${word}`, ...end].join(' ') : undefined;
}

/**
 * Prose as mdoc(7) wants it: a sentence begins on a new line, a macro has a line of its own.
 * @param {string} text
 * @param {ReadonlyMap<string, string>} macros
 */
function prose(text, macros) {
  /** @type {string[]} */
  const lines = [];
  let line = '';
  const flush = () => {
    if (line !== '') lines.push(line);
    line = '';
  };
  for (const token of text.match(/`[^`]+`[^\s`]*|[^\s`]+/g) ?? []) {
    const macro = macroFor(token, macros);
    if (macro !== undefined) {
      flush();
      lines.push(macro);
      continue;
    }
    if (`${line} ${token}`.length > 100) flush();
    line = line === '' ? token : `${line} ${token}`;
    if (/[.:]\)?$/.test(token)) flush();
  }
  flush();
  return lines;
}

/**
 * @param {string} paragraph
 * @param {ReadonlyMap<string, string>} macros
 */
function paragraphLines(paragraph, macros) {
  if (!paragraph.startsWith('- ')) return ['.Pp', ...prose(paragraph, macros)];
  return [
    '.Bl -tag -width Ds -compact',
    ...paragraph.split(/\n(?=- )/).flatMap((item) => {
      const [, word = '', text = ''] = /^- `([^`]+)`: ([^]+)$/.exec(item) ?? [];
      return [`.It Cm ${word}`, ...prose(text, macros)];
    }),
    '.El',
  ];
}

/**
 * @param {string} label
 * @param {string} macro
 * @param {string} words
 */
function labelLines(label, macro, words) {
  const list = words.split(' ');
  return list.flatMap((word, at) => {
    const end = at === list.length - 1 ? '.' : ',';
    return [...(at === 0 ? ['.br', `${label}:`] : []), `.${macro} ${word} ${end}`];
  });
}

/**
 * A member as an item of a list.
 * @param {Element} member
 * @param {ReadonlyMap<string, string>} macros
 */
function memberLines(member, macros) {
  const { args, labels: said, paragraphs } = readComment(member);
  const manners = { const: ' , No constant', false: ' , No no signal', true: '' };
  const manner = manners[/** @type {keyof typeof manners} */ (member.emits)];
  const head =
    member.kind === 'property'
      ? `.It Va ${member.name} Pq Vt ${member.type}${manner}`
      : `.It Fn ${member.name}`;
  const [first = '', ...others] = paragraphs;
  const listed = Object.entries(args).flatMap(([name, text]) => [
    `.It Ar ${name}`,
    ...prose(text, macros),
  ]);
  const [action = '', condition = '', other = ''] = (said['Action'] ?? '').split(
    /, ((?:with|for) [^.]*?)(?: (?=org\.)|$)/,
  );
  return [
    head,
    ...prose(first, macros),
    ...others.flatMap((paragraph) => paragraphLines(paragraph, macros)),
    ...(listed.length > 0 ? ['.Bl -tag -width limit_bytes -compact', ...listed, '.El'] : []),
    ...(action === '' ? [] : ['.br', 'Action:', `.Li ${action} ${condition === '' ? '.' : ','}`]),
    ...(condition === '' ? [] : [other === '' ? `${condition}.` : condition]),
    ...(other === '' ? [] : [`.Li ${other} .`]),
    ...(said['Details'] === undefined ? [] : labelLines('Details', 'Cm', said['Details'])),
    ...(said['Errors'] === undefined ? [] : labelLines('Errors', 'Li', said['Errors'])),
  ];
}

/** @param {Element} member */
function declaration({ kind, name, type, emits, args }) {
  if (kind === 'property') {
    const annotation = emits === 'true' ? [] : [`      @${emitsChangedSignal}("${emits}")`];
    return [...annotation, `      readonly ${type} ${name};`];
  }
  const list = args.map(
    (arg) => `${kind === 'method' ? `${arg.direction} `.padEnd(4) : ''}${arg.type} ${arg.name}`,
  );
  const indent = ' '.repeat(7 + name.length);
  return `      ${name}(${list.join(`,\n${indent}`)});`.split('\n');
}

const groups = /** @type {const} */ ([
  ['method', 'Methods'],
  ['signal', 'Signals'],
  ['property', 'Properties'],
]);

/**
 * An interface: its declaration, what it is for, and its members.
 * @param {Interface} table
 * @param {ReadonlyMap<string, string>} macros
 */
function interfaceLines(table, macros) {
  const { members, name } = table;
  const path = objectPaths[/** @type {keyof typeof objectPaths} */ (name.split('.').at(-1) ?? '')];
  const of = (/** @type {Element['kind']} */ kind) => members.filter((one) => one.kind === kind);
  return [
    ...readComment(table)
      .paragraphs.flatMap((paragraph) => paragraphLines(paragraph, macros))
      .slice(1),
    '.Bd -literal',
    `node ${path} {`,
    `  interface ${name} {`,
    ...groups
      .filter(([kind]) => of(kind).length > 0)
      .flatMap(([kind, title]) => [
        `    ${title.toLowerCase()}:`,
        ...of(kind).flatMap(declaration),
      ]),
    '  };',
    '};',
    '.Ed',
    ...groups
      .filter(([kind]) => of(kind).length > 0)
      .flatMap(([kind, title]) => [
        `.Ss ${title}${name.endsWith('.Manager') ? '' : ` of a ${table.name.split('.').at(-1)?.toLowerCase() ?? ''}`}`,
        '.Bl -tag -width Ds',
        ...of(kind).flatMap((member) => memberLines(member, macros)),
        '.El',
      ]),
  ];
}

/**
 * The page with each interface written anew.
 * @param {string} page
 * @param {string} xml
 */
export function withInterfaces(page, xml) {
  const interfaces = readInterfaces(xml);
  const macros = new Map(
    interfaces
      .flatMap(({ members }) => members)
      .map(({ kind, name }) => [name, kind === 'property' ? 'Va' : 'Fn']),
  );
  return page.replaceAll(
    /^(\.\\" From org\.lockerd1\.xml: (\S+)\n)[^]*?^(\.\\" End\n)/gm,
    (_, begin, name, end) => {
      const table = interfaces.find((one) => one.name === name);
      if (!table) throw new Error(`org.lockerd1.xml has no interface ${String(name)}`);
      return `${String(begin)}${interfaceLines(table, macros).join('\n')}\n${String(end)}`;
    },
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const xml = readFileSync(interfacesPath, 'utf8');
  writeFileSync(pagePath, withInterfaces(readFileSync(pagePath, 'utf8'), xml));
}
