/**
 * Which line of which file made which line of which unit. Each line that the generator has read is
 * left out once; what the generator then no longer writes was made by that line.
 */
import type { Output } from '../generator/write.ts';
import { Files } from '../host/files.ts';
import { HostReader } from '../host/read.ts';
import { containerUnit } from '../model/unit-name.ts';
import { generate } from '../generator/main.ts';
import type { Edits, ReadCache, WrittenLine } from './edited-files.ts';
import { EditedFiles, writtenLines } from './edited-files.ts';

/** A line of a configuration, a settings file or fstab. */
export interface Maker {
  /** As the host names it. */
  readonly file: string;
  /** From 1 on. */
  readonly line: number;
  readonly text: string;
}

/** A line of a generated file. */
export interface MadeLine {
  /** Such as `[Service]`. */
  readonly section: string;
  readonly text: string;
  /** Empty for what every container gets. */
  readonly makers: readonly Maker[];
}

/** A generated file or link, and why it says what it says. */
export interface MadeFile {
  /** Below the generator's directory. */
  readonly path: string;
  /** Where a link leads; undefined for a file. */
  readonly target: string | undefined;
  readonly lines: readonly MadeLine[];
  /** Of a link, and of a file as a whole: the lines without which it would not be there. */
  readonly makers: readonly Maker[];
}

/** What the generator makes of one container. */
export interface Explained {
  readonly files: readonly MadeFile[];
  /** Why the container will not start; empty if it can. */
  readonly problems: readonly string[];
}

/** Where containers live, and which there are. */
export interface ContainerList {
  readonly lxcpath: string;
  readonly names: readonly string[];
}

/** The containers of a host; none where no unit could name the directory that they live in. */
export function containerList(root: string): ContainerList {
  const host = new HostReader(root, new Files());
  const lxcpath = host.lxcpath();
  if (lxcpath === undefined) return { lxcpath: '', names: [] };
  return { lxcpath, names: host.containers(lxcpath).map(({ name }) => name) };
}

/** A line of a file, by which two runs are compared. */
interface Line {
  readonly section: string;
  readonly text: string;
}

/** Every line of each output that says something, by path. */
type Lines = ReadonlyMap<string, { readonly output: Output; readonly lines: readonly Line[] }>;

function linesOf(output: Output): Line[] {
  let section = '';
  return (output.text ?? '').split('\n').flatMap((text) => {
    if (text.startsWith('[')) section = text;
    return text === '' || text.startsWith('#') || text.startsWith('[') ? [] : [{ section, text }];
  });
}

const keyOf = ({ section, text }: Line): string => `${section}\n${text}`;

interface Run {
  readonly lines: Lines;
  readonly refused: ReadonlyMap<string, readonly string[]>;
}

/** The generator's runs on one host, each with something left out. */
class Runs {
  readonly cache: ReadCache = new Map();
  readonly root: string;

  constructor(root: string) {
    this.root = root;
  }

  run(edits: Edits = {}): Run {
    const { outputs, refused } = generate(this.root, new EditedFiles(this.cache, edits));
    return {
      lines: new Map(outputs.map((output) => [output.path, { output, lines: linesOf(output) }])),
      refused,
    };
  }
}

/** What one run has and another one lacks. */
function missing(all: Lines, less: Lines): Lines {
  const rest = new Map<string, { output: Output; lines: Line[] }>();
  for (const [path, { output, lines }] of all) {
    const other = less.get(path);
    const kept = new Set(other?.lines.map(keyOf));
    const gone = lines.filter((line) => !kept.has(keyOf(line)));
    const isMoved = other === undefined || other.output.target !== output.target;
    if (isMoved || gone.length > 0) rest.set(path, { output, lines: gone });
  }
  return rest;
}

/** What is there because of one container. */
function ownLines(
  runs: Runs,
  whole: Run,
  directory: string,
  hidden: string[],
  name: string,
): Lines {
  const without = runs.run({ names: new Map([[directory, new Set([...hidden, name])]]) });
  return missing(whole.lines, without.lines);
}

const sameKeys = (a: Lines, b: Lines): boolean =>
  [...a].map(([path, { lines }]) => [path, ...lines.map(keyOf)].join('\n')).join('\n\n') ===
  [...b].map(([path, { lines }]) => [path, ...lines.map(keyOf)].join('\n')).join('\n\n');

/**
 * Containers that can be left out without a change for the one that is explained: those that its
 * units do not name. With a hundred others each run would take a hundred times as long.
 */
function uninvolved(own: Lines, { names }: ContainerList, name: string): string[] {
  const text = [...own.values()].flatMap(({ lines }) => lines.map((line) => line.text)).join('\n');
  return names.filter((other) => other !== name && !text.includes(containerUnit(other)));
}

/**
 * Explains every line that the generator writes because of one container.
 * @param root the directory that has the host's files; the empty string for the host itself
 */
export function explain(root: string, containers: ContainerList, name: string): Explained {
  const directory = root + containers.lxcpath;
  const all = new Runs(root);
  let runs = all;
  let whole = all.run();
  let own = ownLines(all, whole, directory, [], name);
  let hidden = uninvolved(own, containers, name);
  const few = new Runs(root);
  const fewer = few.run({ names: new Map([[directory, new Set(hidden)]]) });
  const ownOfFew = ownLines(few, fewer, directory, hidden, name);
  // What is said of others too, such as the list of watched paths, may keep them from being left out.
  if (sameKeys(own, ownOfFew)) [runs, whole, own] = [few, fewer, ownOfFew];
  else hidden = [];
  const makers = makersOf(runs, { whole, own, directory, hidden, name });
  return {
    problems: whole.refused.get(name) ?? [],
    files: [...own].map(([path, { output, lines }]) => ({
      path,
      target: output.target,
      makers: asMakers(root, makers.get(path)),
      lines: lines.map((line) => ({
        ...line,
        makers: asMakers(root, makers.get(`${path}\n${keyOf(line)}`)),
      })),
    })),
  };
}

/** By path for whole outputs, by path and line for lines: what they need to be there. */
function makersOf(
  runs: Runs,
  at: {
    readonly whole: Run;
    readonly own: Lines;
    readonly directory: string;
    readonly hidden: readonly string[];
    readonly name: string;
  },
): Map<string, WrittenLine[]> {
  const makers = new Map<string, WrittenLine[]>();
  const names = new Map([[at.directory, new Set(at.hidden)]]);
  const isSound = !at.whole.refused.has(at.name);
  const note = (key: string, written: WrittenLine): void => {
    makers.set(key, [...(makers.get(key) ?? []), written]);
  };
  for (const written of writtenLines(runs.cache, runs.root)) {
    const lines = new Map([[written.path, new Set([written.line])]]);
    const less = runs.run({ lines, names });
    // Without the line there is no container to speak of: that says nothing of single lines.
    if (isSound && less.refused.has(at.name)) continue;
    for (const [path, { lines: gone }] of missing(at.own, less.lines)) {
      if (less.lines.get(path) === undefined) note(path, written);
      for (const line of gone) note(`${path}\n${keyOf(line)}`, written);
    }
  }
  return makers;
}

/** An include brings lines from elsewhere; it is told only where no such line is known. */
function asMakers(root: string, written: readonly WrittenLine[] = []): Maker[] {
  const lines = written.filter(({ text }) => !/^lxc\.include\b/.test(text));
  return (lines.length > 0 ? lines : written).map(({ path, line, text }) => ({
    file: path.slice(root.length),
    line,
    text,
  }));
}
