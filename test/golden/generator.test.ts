import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Tree } from './cases.ts';
import { caseNames, fixtures, generate, readTree, writeTree } from './cases.ts';

/** With LOCKERD_UPDATE_GOLDEN=1 what the generator does now becomes what is expected. */
const isUpdate = process.env['LOCKERD_UPDATE_GOLDEN'] === '1';

/** One text for the whole result, so that a mismatch shows as one readable difference. */
function printTree(tree: Tree, log: string): string {
  const files = [...tree].map(([path, text]) =>
    text.startsWith('-> ') ? `=== ${path} ${text}\n` : `=== ${path}\n${text}`,
  );
  return `${files.join('\n')}\n=== log\n${log}`;
}

function expectedResult(name: string): string {
  const log = join(fixtures, name, 'log');
  return printTree(
    readTree(join(fixtures, name, 'expected')),
    existsSync(log) ? readFileSync(log, 'utf8') : '(no log)\n',
  );
}

test('there are cases enough', () => {
  expect(caseNames.length).toBeGreaterThanOrEqual(36);
});

describe.concurrent('the generator writes what is expected', () => {
  test.each(caseNames)('%s', async (name) => {
    const { tree, log } = await generate(name);
    if (isUpdate) {
      rmSync(join(fixtures, name, 'expected'), { recursive: true, force: true });
      writeTree(join(fixtures, name, 'expected'), tree);
      writeFileSync(join(fixtures, name, 'log'), log);
    }
    expect(printTree(tree, log)).toBe(expectedResult(name));
  });
});
