import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { bundledPackages } from '../../src/build/source-tree.mjs';

const project = path.resolve(import.meta.dirname, '../..');
const copyright = fs.readFileSync(path.join(project, 'src/debian/copyright'), 'utf8');

/** `Files:` patterns of debian/copyright below node_modules, with the license of each. */
function copyrights(): Map<string, string> {
  const licenses = new Map<string, string>();
  for (const paragraph of copyright.split(/\n\n/)) {
    const [, license = ''] = /^License: (.*)$/m.exec(paragraph) ?? [];
    for (const [, name = ''] of paragraph.matchAll(/^(?:Files:)? (node_modules\/\S+)\/\*$/gm)) {
      licenses.set(name, license);
    }
  }
  return licenses;
}

/** As debian/copyright names what npm's packages say: its format has its own short names. */
function debianName(license: string): string {
  if (license === 'MIT') return 'Expat';
  return license.replace(/^(BSD-\d)-Clause$/, '$1-clause');
}

test('debian/copyright has the license of each npm package that is in the programs, and no other', async () => {
  const directories = [...(await bundledPackages()).keys()];
  const expected = directories.map((directory) => {
    const text = fs.readFileSync(path.join(project, directory, 'package.json'), 'utf8');
    const { license } = JSON.parse(text) as { license: string };
    return [directory, debianName(license)] as const;
  });
  expect(expected.length).toBeGreaterThan(20);
  // A package inside another one's node_modules is under the pattern of that one, and has its license.
  const own = copyrights();
  for (const [directory, license] of expected) {
    const outer = directory.replace(/(node_modules\/(?:@[^/]+\/)?[^/]+)\/node_modules\/.*/, '$1');
    expect({ directory, license: own.get(outer) }).toEqual({ directory, license });
  }
  const outermost = new Set(
    directories.map((directory) => directory.replace(/(?<=.)\/node_modules\/.*/, '')),
  );
  expect([...own.keys()].sort()).toEqual([...outermost].sort());
});

test('each license that debian/copyright names is there in full, or as a file of Debian', () => {
  const named = new Set(
    [...copyright.matchAll(/^License: (.*)$/gm)].map(([, license = '']) => license),
  );
  for (const license of named) {
    expect(
      copyright.split('\n\n').filter((one) => one.startsWith(`License: ${license}\n `)),
    ).toHaveLength(1);
  }
});
