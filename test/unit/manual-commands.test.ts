// Every lockerctl and systemctl command in the manual and in README.md is one that exists.

import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { parseArguments } from '../../src/cli/arguments.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string) => readFileSync(`${project}${file}`, 'utf8');
const pages = readdirSync(`${project}src/man`).map((page) => `src/man/${page}`);

/** What a reader may type: literal text, line by line, and what is quoted in a sentence. */
function typedIn(file: string): string[] {
  const text = read(file).replaceAll(/\\e\n\s*/g, '');
  if (file.endsWith('.md')) {
    const lines = [...text.matchAll(/^ {4}(?!\w+\/)(\S.*)$/gm)].map(([, line = '']) => line);
    return [...lines, ...[...text.matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)];
  }
  const blocks = [...text.matchAll(/^\.Bd -literal[^\n]*\n([^]*?)^\.Ed$/gm)];
  const quoted = [...text.matchAll(/^\.(?:Dl|Ql|D1) (.*)$/gm)].map(([, words = '']) =>
    // Punctuation behind a macro is no part of it.
    words.replace(/(?: [.,:;)])+$/, ''),
  );
  return [...blocks.flatMap(([, block = '']) => block.split('\n')), ...quoted].map((line) =>
    line.replaceAll(String.raw`\e`, '\\'),
  );
}

/** The words of each command in a line, up to what ends it in a shell or in a table. */
function commandsIn(line: string, program: string): string[][] {
  return [...line.matchAll(new RegExp(`(?<![\\w/.-])${program}(?= |$)[^;|&)<>#]*`, 'g'))]
    .map(([command]) => command.split(/ {2,}|, (?:or|and) |\$\(/)[0] ?? '')
    .map((command) => command.replaceAll(/["']/g, '').trim().split(' ').slice(1));
}

function commandsOf(program: string): [file: string, words: string[]][] {
  return [...pages, 'README.md'].flatMap((file) =>
    typedIn(file)
      .flatMap((line) => commandsIn(line, program))
      .filter((words) => words.length > 0)
      .map((words): [string, string[]] => [file, words]),
  );
}

/** Whether lockerctl takes these words, alone or with the operands that a sentence leaves out. */
function parsed(words: readonly string[]): ReturnType<typeof parseArguments> | undefined {
  for (const operands of [[], ['web'], ['web', 'data']]) {
    try {
      return parseArguments([...words, ...operands], { outputIsTerminal: false });
    } catch {
      // The next one.
    }
  }
  return undefined;
}

test('lockerctl has each command of the manual', () => {
  const commands = commandsOf('lockerctl');
  const unknown = commands.filter(([, words]) => parsed(words) === undefined);
  expect(unknown).toEqual([]);
  const names = commands.map(([, words]) => parsed(words));
  const used = new Set(names.map((one) => (one && 'command' in one ? one.command : one?.show)));
  expect(used.size).toBeGreaterThan(20);
});

describe('systemctl', () => {
  const commands = commandsOf('systemctl');
  const help = execFileSync('systemctl', ['--help', '--no-pager'], { encoding: 'utf8' });
  const known = {
    verbs: new Set([...help.matchAll(/^ {2}([a-z][a-z-]+)/gm)].map(([, verb]) => verb)),
    options: new Set([...help.matchAll(/(?<= )(-[a-zA-Z](?= )|--[a-z-]+)/g)].map(([word]) => word)),
  };

  test('has each verb and option of the manual', () => {
    expect(commands.length).toBeGreaterThan(80);
    const unknown = commands.filter(([, words]) => {
      // -M has a value; without a verb systemctl lists units.
      const isVerb = (word: string, at: number) => !word.startsWith('-') && words[at - 1] !== '-M';
      const verb = words.find(isVerb) ?? 'list-units';
      const options = words.filter((word) => /^-[a-zA-Z-]/.test(word));
      return (
        // "start|stop|status" of a synopsis.
        !verb.split('|').every((one) => known.verbs.has(one)) ||
        !options.every((option) => known.options.has(option.split('=')[0] ?? ''))
      );
    });
    expect(unknown).toEqual([]);
  });

  test('acts on units that the package or the generator has', () => {
    const packaged = (name: string) =>
      existsSync(`${project}units/system/${name}`) ||
      existsSync(`${project}units/system/${name}.d`);
    let seen = 0;
    for (const [file, words] of commands) {
      for (const word of words.filter((name) => /^(?:lxc|lockerd)[@.-]|^lockerd$/.test(name))) {
        const unit = /\.[a-z]+$/.test(word.replace(/^lxc\.[a-z]+$/, 'x'))
          ? word
          : `${word}.service`;
        const template = unit.replace(/@[^.]*/, '@');
        const isStandIn = /^lxc\.(?:web|NAME)\.service$/.test(unit);
        expect(isStandIn || packaged(template), `${file}: ${words.join(' ')}`).toBe(true);
        seen++;
      }
    }
    expect(seen).toBeGreaterThan(40);
  });
});
