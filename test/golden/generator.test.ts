import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { caseNames, compiledGenerator, dryRun, fixtures, generate, printTree } from './cases.ts';

/** With LOCKERD_UPDATE_GOLDEN=1 what the generator does now becomes what is expected. */
const isUpdate = process.env['LOCKERD_UPDATE_GOLDEN'] === '1';

test('there are cases enough', () => {
  expect(caseNames.length).toBeGreaterThanOrEqual(36);
});

describe.concurrent('the generator writes what is expected', () => {
  test.each(caseNames)('%s', async (name) => {
    const { tree, log } = await generate(name);
    const result = `${log}\n${printTree(tree)}`;
    const file = join(fixtures, name, 'expected');
    if (isUpdate) writeFileSync(file, result);
    expect(result).toBe(existsSync(file) ? readFileSync(file, 'utf8') : '(nothing yet)\n');
  });
});

describe.skipIf(!existsSync(compiledGenerator)).concurrent('and compiled, the same', () => {
  test.each(caseNames)('%s', async (name) => {
    const { tree, log } = await generate(name, compiledGenerator);
    const file = join(fixtures, name, 'expected');
    expect(`${log}\n${printTree(tree)}`).toBe(readFileSync(file, 'utf8'));
  });
});

test('--dry-run prints what is written', async () => {
  const name = 'lockers-own-shared-configured';
  expect(await dryRun(name)).toBe(printTree((await generate(name)).tree));
});
