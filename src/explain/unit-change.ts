/**
 * What the next daemon-reload would change: the files that the generator has written, compared with
 * those that it would write now.
 */
import { createTwoFilesPatch } from 'diff/lib/patch/create.js';
import { generate } from '../generator/main.ts';
import type { Output } from '../generator/write.ts';
import { Files } from '../host/files.ts';
import { typeOf } from '../host/system-calls.ts';
import { decodeWords } from '../model/facts.ts';
import { containerUnit } from '../model/unit-name.ts';

/** Where systemd has the generator write, and where its units read it. */
export const generatorDirectory = '/run/systemd/generator';

/** A generated file or link that would change. */
export interface UnitChange {
  /** Below {@link generatorDirectory}. */
  readonly path: string;
  /** Text, or `-> TARGET` for a link; undefined where there is none. */
  readonly before: string | undefined;
  readonly after: string | undefined;
}

/** What the next daemon-reload would do. */
export interface PlannedChanges {
  /** Names of the containers that have units now. */
  readonly namesBefore: readonly string[];
  readonly changes: readonly UnitChange[];
  /** Why containers will not start, by name; after the reload. */
  readonly refused: ReadonlyMap<string, readonly string[]>;
}

const fileMaxBytes = 1024 * 1024;

/** The first words of each file that the generator writes. */
const mark = '# Written by lockerd-generator(8)';

/** Packaged units that links of the generator lead to. */
const ownTarget = /\/(lxc@|lockerd-|lxc-)[^/]*$/;

const asText = ({ text, target }: Output): string =>
  target === undefined ? (text ?? '') : `-> ${target}\n`;

/** What was written by the generator before, by path; other generators write there as well. */
function writtenBefore(root: string, files: Files): Map<string, string> {
  const top = root + generatorDirectory;
  const found = new Map<string, string>();
  const look = (path: string): void => {
    const full = `${top}/${path}`;
    const type = typeOf(files.lstat(full));
    if (type === 'link') {
      const target = files.readlink(full);
      if (ownTarget.test(target)) found.set(path, `-> ${target}\n`);
    } else if (type === 'file') {
      const { text } = files.read(full, fileMaxBytes);
      if (text.startsWith(mark)) found.set(path, text);
    } else if (type === 'directory' && !path.includes('/')) {
      for (const name of files.list(full)) look(`${path}/${name}`);
    }
  };
  for (const name of files.list(top)) look(name);
  return found;
}

/**
 * Compares what is with what would be.
 * @param root the directory that has the host's files; the empty string for the host itself
 */
export function plannedChanges(root: string, files = new Files()): PlannedChanges {
  const before = writtenBefore(root, files);
  const { outputs, refused } = generate(root, files);
  const after = new Map(outputs.map((output) => [output.path, asText(output)]));
  const changes = [...new Set([...before.keys(), ...after.keys()])]
    .sort()
    .map((path) => ({ path, before: before.get(path), after: after.get(path) }))
    .filter((change) => change.before !== change.after);
  const namesBefore = [...before.values()].flatMap((text) => {
    const [, value = ''] = /^Container=(.+)$/m.exec(text) ?? [];
    return decodeWords(value) ?? [];
  });
  return { namesBefore, changes, refused };
}

/** Whether a change is one of this container's units, or of a link or mount that is made for it. */
export function concerns({ path, before = '', after = '' }: UnitChange, name: string): boolean {
  const unit = containerUnit(name);
  const instance = unit.slice('lxc@'.length, -'.service'.length);
  const own = ['needs', 'disk', 'delay'].map((kind) => `lxc-${kind}@${instance}.`);
  own.push(`lxc.${instance}.service`);
  return (
    [unit, ...own].some((start) => path.split('/').some((part) => part.startsWith(start))) ||
    [before, after].some((text) =>
      text
        .split('\n')
        .some((line) => line === `Before=${unit}` || line.endsWith(` LXC container "${name}"`)),
    )
  );
}

/** A unified diff of one file, which says nothing where the file stands. */
export function unifiedDiff({ path, before, after }: UnitChange): string {
  const file = `${generatorDirectory}/${path}`;
  const [from, to] = [before, after].map((text) => (text === undefined ? '/dev/null' : file));
  const patch = createTwoFilesPatch(from ?? '', to ?? '', before ?? '', after ?? '');
  return patch.slice(patch.indexOf('--- ')).trimEnd();
}
