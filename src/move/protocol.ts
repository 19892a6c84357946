/**
 * What the ends of a move say to each other: a line of JSON for each request, with its number `n` and its
 * operation `op`, and a line for each answer, with the same number and either `ok` or `error`. Each answer has
 * the target's clock `now`, and each request the last such time that the source has, `seen`; see lease.ts.
 */
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { Fields, lineMax } from './fields.ts';

/** Changes whenever ends with different ones would not understand each other. */
export const protocolVersion = 2;

/** Where the program of the target is installed. */
export const programPath = '/usr/lib/lockerd/lockerd-move';

export const operations = [
  /** Who is there. */
  'hello',
  /** What would keep the container from running there; changes nothing. */
  'check',
  /** Makes the directory for the copy. */
  'prepare',
  /** Has everything written that was copied. */
  'flush',
  /** Gives the copy the container's name. */
  'install',
  /** Starts it, and waits until it is ready. */
  'start',
  /** Says that the source is there. */
  'ping',
  /** The container is the target's from now on. */
  'keep',
  /** Undoes install and start. */
  'abort',
] as const;

export type Operation = (typeof operations)[number];

/**
 * Calls `take` for each line until the end. A line that is too long ends the stream.
 * @param silenceMs ends it too, when so much time passes after a line without another one
 */
export async function eachLine(
  input: Readable,
  take: (line: Fields) => void,
  silenceMs?: number,
): Promise<void> {
  let length = 0;
  input.on('data', (chunk: Buffer) => {
    length = chunk.includes(10) ? chunk.length - chunk.lastIndexOf(10) : length + chunk.length;
    if (length > lineMax) input.destroy(new Error('a line is too long'));
  });
  let silence: NodeJS.Timeout | undefined;
  try {
    for await (const line of createInterface({ input, crlfDelay: Infinity })) {
      clearTimeout(silence);
      if (silenceMs !== undefined) {
        silence = setTimeout(() => {
          input.destroy(new Error('the other end says nothing any more'));
        }, silenceMs);
      }
      take(Fields.parse(line));
    }
  } finally {
    clearTimeout(silence);
  }
}
