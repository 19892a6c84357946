import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { check } from 'recheck';
import ts from 'typescript';
import { expect, test, vi } from 'vitest';

vi.setConfig({ testTimeout: 600_000 });

// Its other backends are programs of the machine.
process.env['RECHECK_BACKEND'] = 'pure';

const root = join(import.meta.dirname, '../..');

interface Pattern {
  readonly at: string;
  readonly source: string;
  readonly flags: string;
}

/** Pattern of `new RegExp(...)`, with a word for each name that is filled in. */
function constructed(call: ts.NewExpression | ts.CallExpression): string | undefined {
  const [first] = call.arguments ?? [];
  if (first === undefined) return undefined;
  if (ts.isStringLiteralLike(first)) return first.text;
  if (!ts.isTemplateExpression(first)) return undefined;
  return first.head.text + first.templateSpans.map((span) => `name${span.literal.text}`).join('');
}

/** Each pattern that a source file writes or constructs. */
function patternsOf(file: string): Pattern[] {
  const source = ts.createSourceFile(
    file,
    readFileSync(join(root, file), 'utf8'),
    ts.ScriptTarget.Latest,
    true,
    // Rules of polkit are JavaScript too.
    file.endsWith('.rules') ? ts.ScriptKind.JS : undefined,
  );
  const found: Pattern[] = [];
  const visit = (node: ts.Node): void => {
    const at = `${file}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}`;
    if (node.kind === ts.SyntaxKind.RegularExpressionLiteral) {
      const text = node.getText();
      const end = text.lastIndexOf('/');
      found.push({ at, source: text.slice(1, end), flags: text.slice(end + 1) });
    } else if (
      (ts.isNewExpression(node) || ts.isCallExpression(node)) &&
      node.expression.getText() === 'RegExp'
    ) {
      const pattern = constructed(node);
      if (pattern === undefined) throw new Error(`${at}: write the pattern where it is made`);
      found.push({ at, source: pattern, flags: 'm' });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

function filesWithPatterns(): string[] {
  return ['src', 'generators', 'hooks'].flatMap((directory) =>
    readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
      // What src/build reads was written by whoever builds.
      .filter((name) => /\.(?:ts|mjs|rules)$/.test(name) && !/\.d\.ts$|^build\//.test(name))
      .map((name) => join(directory, name)),
  );
}

/** What a text can do to a pattern, such as `polynomial`; "linear" when that is nothing. */
async function timeOf({ source, flags }: Pick<Pattern, 'source' | 'flags'>): Promise<string> {
  const result = await check(source, flags, { checker: 'automaton', timeout: 60_000 });
  switch (result.status) {
    case 'safe':
      return 'linear';
    case 'vulnerable':
      return result.complexity.type;
    case 'unknown':
      return `unknown: ${result.error.kind}`;
  }
}

const units =
  'usec|us|msec|ms|seconds|second|sec|s|minutes|minute|min|m|hours|hour|hr|h|days|day|d|weeks|week|w';

test.each([
  [String.raw`^(?:\d+(?:\.\d+)?\s*(?:${units})?\s*)+$`, '', 'exponential'],
  [String.raw`^[ \t]*lxc\.lxcpath[ \t]*=[ \t]*(.*?)\s*$`, '', 'polynomial'],
  [String.raw`\/+$`, '', 'polynomial'],
  [String.raw`^[a-z]+$`, '', 'linear'],
])('the time of /%s/%s is %s', async (source, flags, expected) => {
  expect(await timeOf({ source, flags })).toBe(expected);
});

test('every pattern of the product takes linear time', async () => {
  const patterns = filesWithPatterns().flatMap(patternsOf);
  expect(patterns.length).toBeGreaterThan(100);
  const slow: string[] = [];
  const times = new Map<string, string>();
  for (const { at, source, flags } of patterns) {
    const key = `/${source}/${flags}`;
    const time = times.get(key) ?? (await timeOf({ source, flags }));
    times.set(key, time);
    if (time !== 'linear') slow.push(`${at}: ${key} is ${time}`);
  }
  expect(slow).toEqual([]);
  // Hundreds of patterns are looked at, in a minute of processor time that others may want as well.
}, 600_000);
