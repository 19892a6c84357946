/** Programs that make archives smaller, chosen by the name of a file and recognized by its first bytes. */
import { openSync, readSync, closeSync } from 'node:fs';

interface Compressor {
  readonly program: string;
  readonly suffixes: readonly string[];
  readonly magic: readonly number[];
  readonly options: readonly string[];
}

const compressors: readonly Compressor[] = [
  { program: 'gzip', suffixes: ['.gz', '.tgz'], magic: [0x1f, 0x8b], options: [] },
  { program: 'xz', suffixes: ['.xz', '.txz'], magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a], options: [] },
  {
    program: 'zstd',
    suffixes: ['.zst', '.tzst'],
    magic: [0x28, 0xb5, 0x2f, 0xfd],
    options: ['--quiet'],
  },
];

/** A program that reads standard input and writes standard output. */
export type Filter = readonly [program: string, ...args: string[]];

/** What compresses a file of this name; undefined for nothing. */
export function compressorFor(path: string): Filter | undefined {
  const found = compressors.find(({ suffixes }) => suffixes.some((end) => path.endsWith(end)));
  return found && [found.program, ...found.options, '--stdout'];
}

/** What gives the bytes back that are in a file; undefined where they are as they were. */
export function decompressorOf(path: string): Filter | undefined {
  const head = Buffer.alloc(8);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  const found = compressors.find(({ magic }) => magic.every((byte, at) => head[at] === byte));
  return found && [found.program, ...found.options, '--decompress', '--stdout'];
}
