import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { describe, expect, test } from 'vitest';
import { parseArguments } from '../../src/cli/arguments.ts';
import { remoteCommand } from '../../src/cli/enter.ts';
import type { Request } from '../../src/core/request.ts';
import { splitLxcText } from '../../src/host/grammar.ts';
import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import { shellWord } from '../../src/model/shell-quote.ts';
import { containerUnit, mountUnit } from '../../src/model/unit-name.ts';
import { caller, definition, definitions, FakeOutside, options, settled } from './core-fakes.ts';

const root = join(import.meta.dirname, '../..');

/** Names that a shell would take apart or run, or a program for an option. */
const oddNames = [
  'web',
  'my web',
  ' web ',
  "it's",
  "'",
  '"web"',
  '$(touch x)',
  '`id`',
  '-web',
  '--help',
  'wörld ☃',
  'a;b|c&d>e',
  '*?[a]',
  '~root',
  '#web',
  'a\\b',
  '{a,b}',
  '!!',
  '$HOME',
];

/** What a shell makes of a command: its words. */
function wordsOf(command: string): string[] {
  const script = `show() { printf '%s\\0' "$@"; }; show ${command}`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1);
}

/** The command at the end of a message. */
function commandIn(message: string): string[] {
  const at = message.search(/(?:systemctl|journalctl|lxc-[a-z-]+) (?:start|status|-)/);
  expect(at, message).toBeGreaterThan(-1);
  return wordsOf(message.slice(at));
}

test.each([...oddNames, ''])('a shell takes %j back as it was', (name) => {
  expect(wordsOf(shellWord(name))).toEqual([name]);
});

test.each(oddNames)('no unit of %j looks like an option', (name) => {
  expect(containerUnit(name)).not.toMatch(/^-/);
  expect(mountUnit(`/${name}`)).not.toMatch(/^-/);
});

describe.each(oddNames)('what is to be pasted for %j', (name) => {
  /** What a request is refused with. */
  async function refusal(
    request: Request,
    prepare: (outside: FakeOutside) => void,
    change = {},
  ): Promise<string> {
    const outside = new FakeOutside();
    outside.definitions = definitions(definition(name, change));
    const core = outside.core();
    await core.start();
    prepare(outside);
    await settled();
    const message = core.request(caller(), request, options({ wait: true })).then(
      () => 'nothing',
      (error: unknown) => (error as Error).message,
    );
    // Should it be accepted, its job fails.
    await settled();
    if (outside.pending.length > 0) {
      outside.unit(name, { activeState: 'failed', result: 'exit-code' });
      outside.answer(`start lxc@${name}.service`, 'failed');
    }
    return message;
  }
  const nothing = (): void => undefined;
  const start: Request = { verb: 'start', container: name };

  test('of the service', async () => {
    const unit = `lxc@${name}`;
    const failed = await refusal(start, nothing);
    expect(commandIn(failed)).toEqual(['journalctl', '-u', unit]);
    const broken = await refusal(start, nothing, { problem: 'config:3: no such key' });
    expect(commandIn(broken)).toEqual(['systemctl', 'status', unit]);
    const stopped = await refusal({ verb: 'freeze', container: name }, nothing);
    expect(commandIn(stopped)).toEqual(['systemctl', 'start', unit]);
    const outside = await refusal({ verb: 'stop', container: name }, (world) => {
      world.lxc(name, 'RUNNING', 77);
    });
    expect(commandIn(outside)).toEqual(['lxc-stop', '-n', name]);
  });

  test('of the generator', () => {
    const path = `/var/lib/lxc/${name}/config`;
    const text = splitLxcText('lxc.tty = 1');
    const file = { path, text, badLines: new Set<number>(), includes: [] };
    const remedy = parseLxcConfig({ file, paths: [] }).problems[0]?.remedy ?? '';
    expect(commandIn(remedy)).toEqual(['lxc-update-config', '-c', path]);
  });

  test('of lockerctl', () => {
    const traits = { outputIsTerminal: false };
    const invocation = parseArguments(['console', '--', name], traits);
    if ('show' in invocation) throw new Error(invocation.show);
    const [command, ...args] = wordsOf(remoteCommand(invocation, 'db').at(-1) ?? '');
    expect(command).toBe('lockerctl');
    expect(parseArguments(args, traits)).toEqual(invocation);
  });

  test('of check-lockers', () => {
    const args = [join(root, 'hooks/check-lockers'), '/nowhere', `/lockers/${name}`];
    const { stdout } = spawnSync('sh', args, { encoding: 'utf8' });
    expect(commandIn(stdout.replace(/; if it was unmounted.*/s, ''))).toEqual([
      'systemctl',
      'status',
      `/lockers/${name}`,
    ]);
  });
});

/** A command whose next word is at the end of a text. */
const commandAhead = new RegExp(
  '(?:\\b(?:systemctl|lockerctl) [a-z-]+|\\bjournalctl -[-a-z]+|\\blxc-[a-z-]+ -[-a-zA-Z]+|' +
    '\\b(?:umount|findmnt)|"ssh)(?: [^"\';,]*)? [\'"]?$',
);

/** Text and what is filled in, in order: `a ${b} c` and 'a ' + b + ' c' alike. */
function partsOf(node: ts.Expression): (string | ts.Expression)[] {
  if (ts.isStringLiteralLike(node)) return [node.text];
  if (ts.isTemplateExpression(node)) {
    return [
      node.head.text,
      ...node.templateSpans.flatMap(({ expression, literal }) => [expression, literal.text]),
    ];
  }
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.PlusToken) {
    return [...partsOf(node.left), ...partsOf(node.right)];
  }
  return [node];
}

/** What stands unquoted behind a command in the texts of a source file. */
function unquotedIn(name: string, text: string): string[] {
  const source = ts.createSourceFile(name, text, ts.ScriptTarget.Latest, true);
  const found = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isTemplateExpression(node) || ts.isBinaryExpression(node)) {
      let before = '';
      for (const part of partsOf(node)) {
        if (typeof part !== 'string' && commandAhead.test(before)) {
          const isQuoted = ts.isCallExpression(part) && part.expression.getText() === 'shellWord';
          if (!isQuoted) found.add(`${name}: ${part.getText()}`);
        }
        before += typeof part === 'string' ? part : 'X';
      }
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return [...found];
}

test('no message has a command with a name that is not quoted', () => {
  const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' });
  const sources = files.filter((file) => file.endsWith('.ts'));
  expect(sources.length).toBeGreaterThan(100);
  const read = (file: string): string => readFileSync(join(root, 'src', file), 'utf8');
  expect(sources.flatMap((file) => unquotedIn(file, read(file)))).toEqual([]);
});

test.each([
  'const a = `see: systemctl status ${unit}`;',
  "const a = `see systemctl status '${unit}'`;",
  "const a = 'run: lxc-stop -n ' + name;",
  'const a = `x; ` + `lxc-stop -n ${shellWord(name)} && systemctl start ${unit}`;',
  'const a = `see "findmnt ${target}"`;',
])('the check sees %s', (text) => {
  expect(unquotedIn('x.ts', text)).toHaveLength(1);
});

test('no message of a hook has one either', () => {
  for (const file of readdirSync(join(root, 'hooks'))) {
    const lines = readFileSync(join(root, 'hooks', file), 'utf8').split('\n');
    const messages = lines.filter((line) => /\b(?:printf|echo|say|fail|give_up)\b/.test(line));
    const commands = messages.filter((line) =>
      /\b(?:systemctl [a-z-]+|journalctl -u|lxc-[a-z]+ -n|umount|findmnt) [\\"']*(?:\$|%s)/.test(
        line.replaceAll(/\$\(.*\)/g, ''),
      ),
    );
    for (const line of commands) expect(`${file}: ${line}`).toContain('"$(quoted "');
  }
});
