// src/doc/boot.svg shows what the generator writes, and leaves out only what other arrows say already.

import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { bootPicture, waitingGraph } from '../../src/build/boot-picture.mjs';
import { layOut, withoutShortcuts, type Edge } from '../../src/build/layered-graph.mjs';

const project = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string) => readFileSync(`${project}${file}`, 'utf8');

test('the picture is up to date; see src/build/boot-picture.mjs', () => {
  const picture = read('src/doc/boot.svg');
  expect(picture).toBe(bootPicture());
  expect(picture.length).toBeLessThan(60_000);
});

test('it has each container, and all that the generator has it wait for', () => {
  const { boxes, edges } = waitingGraph();
  const expected = read('test/fixtures/generator/boot-of-three/expected');
  const drawn = [
    ...read('src/doc/boot.svg').matchAll(/^<rect class="\w+" x="\d+" y="\d+" width="178"/gm),
  ];
  expect(drawn).toHaveLength(boxes.length);
  for (const name of ['db', 'web', 'mail']) {
    const unit = `lxc@${name}.service`;
    const [, dropIn = ''] = expected.split(`# ${unit}.d/60-container.conf\n`);
    const after = [...(dropIn.split(/^# \S+$/m)[0] ?? '').matchAll(/^After=(.*)$/gm)];
    expect(after.length).toBeGreaterThan(0);
    const shown = withoutShortcuts(edges);
    for (const [, before = ''] of after) expect(leads(shown, before, unit), before).toBe(true);
    expect(leads(shown, 'local-fs.target', unit)).toBe(true);
  }
});

function leads(edges: readonly Edge[], from: string, to: string): boolean {
  return edges.some((edge) => edge.from === from && (edge.to === to || leads(edges, edge.to, to)));
}

const size = { width: 100, height: 40, columnGap: 30, rowGap: 10, margin: 10, top: 10 };
const nodes = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
/** Without cycles, for each edge goes to a later letter. */
const graphs = fc
  .uniqueArray(fc.tuple(fc.nat(6), fc.nat(6)), { maxLength: 14, selector: String })
  .map((pairs) =>
    pairs.flatMap(([from, to]): Edge[] =>
      from < to ? [{ from: nodes[from] ?? '', to: nodes[to] ?? '', isNeeded: true }] : [],
    ),
  );

describe('a graph', () => {
  test('loses only edges that a longer way says', () => {
    fc.assert(
      fc.property(graphs, (edges) => {
        const shown = withoutShortcuts(edges);
        for (const from of nodes) {
          for (const to of nodes) expect(leads(shown, from, to)).toBe(leads(edges, from, to));
        }
        for (const edge of shown) {
          const others = shown.filter((one) => one !== edge);
          expect(leads(others, edge.from, edge.to)).toBe(false);
        }
      }),
    );
  });

  test('goes from left to right, without a box on another', () => {
    fc.assert(
      fc.property(graphs, (edges) => {
        const { places, width, height } = layOut(nodes, edges, size);
        const at = (node: string) => places.get(node) ?? { x: NaN, y: NaN };
        for (const { from, to } of edges) expect(at(from).x + size.width).toBeLessThan(at(to).x);
        for (const node of nodes) {
          expect(at(node).x + size.width).toBeLessThanOrEqual(width);
          expect(at(node).y + size.height).toBeLessThanOrEqual(height);
          for (const other of nodes) {
            if (other === node || at(other).x !== at(node).x) continue;
            expect(Math.abs(at(other).y - at(node).y)).toBeGreaterThanOrEqual(size.height);
          }
        }
      }),
    );
  });
});
