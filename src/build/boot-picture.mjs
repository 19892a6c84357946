// Draws what waits for what in a boot: src/doc/boot.svg, from what the generator writes for the case
// boot-of-three of its tests and from the packaged units.
// Usage: node src/build/boot-picture.mjs
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { layOut } from './layered-graph.mjs';

const project = fileURLToPath(new URL('../..', import.meta.url));
const fixture = `${project}test/fixtures/generator/boot-of-three`;
const picturePath = `${project}src/doc/boot.svg`;

/**
 * @typedef {import('./layered-graph.mjs').Edge} Edge
 * @typedef {import('./layered-graph.mjs').Place} Place
 * @typedef {{ title: string, kind: 'host' | 'lockerd' | 'container', name: string }} Box
 */

/** @param {string} path */
const read = (path) => readFileSync(path, 'utf8');

/**
 * The directives of [Unit], by unit: of "# UNIT.d/FILE.conf" and "# UNIT" in a dry run's output.
 * @param {string} text
 */
function unitsIn(text) {
  /** @type {Map<string, string[]>} */
  const units = new Map();
  for (const part of text.split(/^# (?=[^\n ]+$)/m).slice(1)) {
    const [path = '', ...lines] = part.split('\n');
    const unit = path.split('.d/')[0] ?? '';
    const section =
      lines
        .join('\n')
        .split(/^\[/m)
        .find((one) => one.startsWith('Unit]')) ?? '';
    const directives = section.split('\n').filter((line) => /^[A-Z]\w+=/.test(line));
    units.set(unit, [...(units.get(unit) ?? []), ...directives]);
  }
  return units;
}

/**
 * The mount of fstab that has a path.
 * @param {string} path
 * @param {readonly string[]} points
 */
function mountOf(path, points) {
  const found = points.filter((point) => path === point || path.startsWith(`${point}/`));
  return found.map((point) => `${point.slice(1).replaceAll('/', '-')}.mount`);
}

/** What waits for what: each container, and all that it waits for in turn. */
export function waitingGraph() {
  const units = unitsIn(read(`${fixture}/expected`));
  const points = [...read(`${fixture}/root/etc/fstab`).matchAll(/^\S+ (\S+)/gm)].map(
    ([, point = '']) => point,
  );
  const packaged = {
    'lxc@': unitsIn(`# lxc@\n${read(`${project}units/system/lxc@.service.d/50-lockerd.conf`)}`),
    'lockerd-rescan': unitsIn(
      `# lockerd-rescan\n${read(`${project}units/system/lockerd-rescan.service`)}`,
    ),
  };
  /** @param {string} unit */
  const directivesOf = (unit) => [
    ...(units.get(unit) ?? []),
    ...Object.entries(packaged).flatMap(([name, text]) =>
      unit.startsWith(name) ? (text.get(name) ?? []) : [],
    ),
  ];
  /** @type {Edge[]} */
  const edges = [];
  const containers = [...units.keys()].filter((unit) => /^lxc@.+\.service$/.test(unit));
  const seen = new Set(containers);
  for (const unit of seen) {
    for (const { before, isNeeded } of waitsOf(directivesOf(unit), points)) {
      edges.push({ from: before, to: unit, isNeeded });
      seen.add(before);
    }
  }
  return { boxes: [...seen].sort(), edges };
}

/**
 * The units that one with these directives waits for, and whether it has them started.
 * @param {readonly string[]} directives
 * @param {readonly string[]} points
 */
function waitsOf(directives, points) {
  /** @param {RegExp} key */
  const values = (key) =>
    directives.flatMap((line) => {
      const [name = '', ...rest] = line.split('=');
      return key.test(name) ? rest.join('=').split(' ') : [];
    });
  const needed = new Set(values(/^(?:Wants|Requires|BindsTo)$/));
  const mounts = values(/^RequiresMountsFor$/).flatMap((path) => mountOf(path, points));
  const after = values(/^After$/).filter((unit) => isShown(unit) && !mounts.includes(unit));
  return [
    ...after.map((before) => ({ before, isNeeded: needed.has(before) })),
    ...mounts.map((before) => ({ before, isNeeded: true })),
  ];
}

/**
 * Pins guard what is mounted, and are started with it. Of the targets one is enough.
 * @param {string} unit
 */
function isShown(unit) {
  return !/^(?:lockerd-pin@|remote-fs\.target|zfs-mount\.service|run-lockerd-slots)/.test(unit);
}

/**
 * A path as a unit of systemd is named after it.
 * @param {string} unit
 */
function pathOf(unit) {
  const name = unit.replace(/\.[a-z]+$/, '').replaceAll('-', '/');
  return `/${name.replaceAll(String.raw`\x2d`, '-')}`;
}

/**
 * @param {string} unit
 * @returns {Box}
 */
function boxOf(unit) {
  const [, what = ''] = /^.*@(.*)\.service$/.exec(unit) ?? [];
  const isPath = /\.(?:mount|device)$/.test(unit);
  /** @type {[RegExp, string, Box['kind']][]} */
  const kinds = [
    [/^lxc@/, `container ${what}`, 'container'],
    [/^lxc-delay@/, `delay after ${what}`, 'lockerd'],
    [/^lxc-needs@/, `mounts that ${what} needs`, 'lockerd'],
    [/^lockerd-rescan/, 'second look', 'lockerd'],
    [/^var-locker\\x2dmappings\.mount/, 'wormholes', 'lockerd'],
    [/^var-locker\\x2dmappings-/, `locker attached`, 'lockerd'],
    [/^lockers-/, 'locker', 'host'],
    [/^sys-subsystem-net/, 'network interface', 'host'],
    [/\.device$/, 'volume', 'host'],
    [/\.mount$/, 'file system', 'host'],
    [/\.target$/, 'all local file systems', 'host'],
  ];
  const [, title, kind] = kinds.find(([pattern]) => pattern.test(unit)) ?? [0, unit, 'host'];
  const path = pathOf(unit).replace('/sys/subsystem/net/devices/', '');
  return { title, kind, name: isPath ? path : unit };
}

const styles = `
  text { font: 12.5px system-ui, sans-serif; fill: #1b1f24; }
  .unit { font: 10px ui-monospace, monospace; fill: #57606a; }
  .paper { fill: #ffffff; }
  .host { fill: #f0f2f5; stroke: #8c959f; }
  .lockerd { fill: #e3f1ff; stroke: #3181d6; }
  .container { fill: #dff5e4; stroke: #2b8a4b; }
  .container + text { font-weight: 600; }
  path { fill: none; stroke: #6e7781; stroke-width: 1.3; }
  .order { stroke-dasharray: 5 4; }
  marker path { fill: #6e7781; stroke: none; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .unit { fill: #9ba5b0; }
    .paper { fill: #0d1117; }
    .host { fill: #21262d; stroke: #7d8590; }
    .lockerd { fill: #12283f; stroke: #4c9bea; }
    .container { fill: #12331f; stroke: #3fb368; }
    path { stroke: #9ba5b0; }
    marker path { fill: #9ba5b0; }
  }`;

const size = { width: 178, height: 44, columnGap: 38, rowGap: 16, margin: 16, top: 18 };

/** @param {string} text */
const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/**
 * @param {Place} place
 * @param {Box} box
 */
function boxLines({ x, y }, { title, kind, name }) {
  const rect = `<rect class="${kind}" x="${x}" y="${y}" width="${size.width}" height="${size.height}" rx="6"/>`;
  const middle = x + size.width / 2;
  return [
    rect,
    `<text x="${middle}" y="${y + 18}" text-anchor="middle">${escaped(title)}</text>`,
    `<text class="unit" x="${middle}" y="${y + 34}" text-anchor="middle">${escaped(name)}</text>`,
  ];
}

/** @param {number} y */
function legendLines(y) {
  const entries = /** @type {const} */ ([
    ['host', 'of the host'],
    ['lockerd', 'of lockerd'],
    ['container', 'container'],
  ]);
  const boxes = entries.flatMap(([kind, words], at) => [
    `<rect class="${kind}" x="${size.margin + at * 112}" y="${y}" width="22" height="14" rx="3"/>`,
    `<text x="${size.margin + at * 112 + 28}" y="${y + 12}" style="font-weight: 400">${words}</text>`,
  ]);
  const at = size.margin + 345;
  return [
    ...boxes,
    `<path d="M${at} ${y + 7} h40" marker-end="url(#tip)"/>`,
    `<text x="${at + 52}" y="${y + 12}">started for the next one, which waits</text>`,
    `<path class="order" d="M${at + 300} ${y + 7} h40" marker-end="url(#tip)"/>`,
    `<text x="${at + 352}" y="${y + 12}">the next one waits if both start</text>`,
  ];
}

/** The picture, as SVG. */
export function bootPicture() {
  const { boxes, edges } = waitingGraph();
  const { places, lines, width, height } = layOut(boxes, edges, size);
  const total = height + 44;
  const drawn = [
    ...lines.map(
      ({ path, isNeeded }) =>
        `<path${isNeeded ? '' : ' class="order"'} d="${path}" marker-end="url(#tip)"/>`,
    ),
    ...boxes.flatMap((unit) => boxLines(places.get(unit) ?? { x: 0, y: 0 }, boxOf(unit))),
    ...legendLines(height + 12),
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${total}" role="img" aria-label="What waits for what when three containers start at boot">
<style>${styles}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>
<rect class="paper" width="${width}" height="${total}"/>
${drawn.join('\n')}
</svg>
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(picturePath, bootPicture());
