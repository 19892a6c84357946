import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const project = fileURLToPath(new URL('../..', import.meta.url));
export const fixtures = join(project, 'test/fixtures/generator');
const generator = join(project, 'dist/lockerd-generator');
/** The same program without Node; it is there where it could be compiled. */
export const compiledGenerator = join(project, 'dist/compiled/lockerd-generator');

/** Every case, that is every directory of test/fixtures/generator. */
export const caseNames: readonly string[] = readdirSync(fixtures, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name)
  .sort();

/** Files by path below a directory: their text, or `-> TARGET` for a symbolic link. */
export type Tree = ReadonlyMap<string, string>;

export function readTree(directory: string): Tree {
  const tree = new Map<string, string>();
  const walk = (below: string): void => {
    for (const name of readdirSync(join(directory, below)).sort()) {
      const path = below === '' ? name : `${below}/${name}`;
      const full = join(directory, path);
      const stat = lstatSync(full);
      if (stat.isSymbolicLink()) tree.set(path, `-> ${readlinkSync(full)}`);
      else if (stat.isDirectory()) walk(path);
      else tree.set(path, stableText(readFileSync(full, 'utf8')));
    }
  };
  if (existsSync(directory)) walk('');
  return tree;
}

export function writeTree(directory: string, tree: Tree): void {
  for (const [path, text] of tree) {
    const full = join(directory, path);
    mkdirSync(dirname(full), { recursive: true });
    if (text.startsWith('-> ')) symlinkSync(text.slice('-> '.length), full);
    else writeFileSync(full, text);
  }
}

/** Device and inode numbers are different each time a tree is copied. */
function stableText(text: string): string {
  return text.replaceAll(/\b\d+:\d+=/g, 'DEV:INO=');
}

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; a status other than 0 is an answer like any other. */
export function run(
  program: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; cwd?: string; uid?: number; gid?: number } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { ...options, timeout: 60_000, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error !== null && child.exitCode === null) reject(new Error(error.message));
        else resolve({ status: child.exitCode, stdout, stderr });
      },
    );
  });
}

export async function withTemporaryDirectory<T>(use: (directory: string) => Promise<T>) {
  const directory = mkdtempSync(join(tmpdir(), 'lockerd-golden-'));
  try {
    return await use(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Makes the files of a case's host below a directory and returns where they are. */
async function makeRoot(name: string, directory: string): Promise<string> {
  const root = join(directory, 'root');
  cpSync(join(fixtures, name, 'root'), root, { recursive: true, verbatimSymlinks: true });
  const setup = join(fixtures, name, 'setup.sh');
  if (existsSync(setup)) {
    const { status, stderr } = await run('/bin/sh', [setup], { cwd: root });
    if (status !== 0) throw new Error(`${setup} failed: ${stderr}`);
  }
  return root;
}

function runGenerator(root: string, args: readonly string[], program: string): Promise<Ended> {
  return run(program, args, { env: { PATH: process.env['PATH'], LOCKERD_ROOT: root } });
}

/** What the built generator makes of a case: the written tree and its log. */
export function generate(name: string, program = generator): Promise<{ tree: Tree; log: string }> {
  return withTemporaryDirectory(async (directory) => {
    const root = await makeRoot(name, directory);
    const directories = ['normal', 'early', 'late'].map((each) => join(directory, each));
    for (const each of directories) mkdirSync(each);
    const { status, stdout, stderr } = await runGenerator(root, directories, program);
    const unexpected = [
      ...readTree(join(directory, 'early')),
      ...readTree(join(directory, 'late')),
    ];
    if (unexpected.length > 0) throw new Error('only the first directory is to be written to');
    if (stdout !== '') throw new Error(`standard output should be empty: ${stdout}`);
    return {
      tree: readTree(join(directory, 'normal')),
      log: `exit status ${String(status)}\n${stderr}`,
    };
  });
}

/** What the built generator prints of a case instead of writing it. */
export function dryRun(name: string): Promise<string> {
  return withTemporaryDirectory(async (directory) => {
    const { stdout } = await runGenerator(
      await makeRoot(name, directory),
      ['--dry-run'],
      generator,
    );
    return stableText(stdout);
  });
}

/** A tree in the form of `--dry-run`. */
export function printTree(tree: Tree): string {
  return [...tree]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([path, text]) =>
      text.startsWith('-> ') ? `# ${path} ${text}\n\n` : `# ${path}\n${text}\n`,
    )
    .join('');
}
