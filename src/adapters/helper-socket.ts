/** One request to lockerd-helper@.service behind its socket, and its answer: JSON objects, one a line. */

import { connect, type Socket } from 'node:net';
import { isErrorCode, LockerdError } from '../model/errors.ts';

/** A line longer than this is no answer of the helper's. */
const lineMaxBytes = 64 * 1024;

export type Json = Readonly<Record<string, unknown>>;

export interface AskOptions {
  /** How long the helper may be silent before the request counts as failed, milliseconds. */
  readonly silenceMs: number;
  /** Has the helper undo what is under way. */
  readonly signal?: AbortSignal;
  /** What came of it counts also after the signal. Otherwise the request has failed at once. */
  readonly awaitsEnd?: boolean;
  readonly progress?: (phase: string, fraction: number) => void;
  /** Gets the lines before the answer. */
  readonly line?: (line: Json) => void;
}

/** Settles with the helper's answer. Each failure is a LockerdError, with the helper's own message. */
export async function askHelper(
  socketPath: string,
  verb: string,
  fields: Json,
  { silenceMs, signal, awaitsEnd = false, progress: tell, line: take }: AskOptions,
): Promise<Json> {
  if (isAborted(signal)) throw cancelled(verb);
  const socket = connect(socketPath);
  // What is under way is undone by the helper when its caller leaves, or says no more.
  const leave = (): void => {
    if (awaitsEnd) socket.end();
    else socket.destroy();
  };
  signal?.addEventListener('abort', leave, { once: true });
  try {
    socket.write(`${JSON.stringify({ verb, ...fields })}\n`);
    for await (const line of linesOf(socket, silenceMs)) {
      const { progress, phase } = line;
      if (typeof progress === 'number' && typeof phase === 'string') {
        tell?.(phase, progress);
        continue;
      }
      if (line['ok'] === true) return line;
      if (line['ok'] === undefined && take !== undefined) {
        take(line);
        continue;
      }
      throw errorOf(line);
    }
    throw new LockerdError('Failed', `the helper of lockerd ended without an answer (${verb})`);
  } catch (error) {
    if (isAborted(signal) && !awaitsEnd) throw cancelled(verb);
    if (error instanceof LockerdError) throw error;
    throw new LockerdError('Failed', whyNoAnswer(verb, error), { cause: error });
  } finally {
    signal?.removeEventListener('abort', leave);
    socket.destroy();
  }
}

/** JSON objects, one a line; ends with the connection. Throws when one is too long or no JSON. */
export async function* linesOf(socket: Socket, silenceMs = 0): AsyncGenerator<Json> {
  let rest = Buffer.alloc(0);
  if (silenceMs > 0) {
    socket.setTimeout(silenceMs, () => {
      socket.destroy(new Error('silence'));
    });
  }
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = Buffer.concat([rest, chunk]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const line: unknown = JSON.parse(rest.toString('utf8', 0, end));
      if (typeof line !== 'object' || line === null) throw new Error('no JSON object');
      rest = rest.subarray(end + 1);
      yield line as Json;
    }
    if (rest.length > lineMaxBytes) throw new Error('too long a line');
  }
}

/** A function, for what is asked again after an await is not known to be false. */
export function isAborted(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}

export function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

export function booleanOf(answer: Json, key: string): boolean {
  return answer[key] === true;
}

export function textsOf(answer: Json, key: string): string[] {
  const texts = answer[key];
  return Array.isArray(texts) ? texts.filter((text) => typeof text === 'string') : [];
}

export function errorOf({ error, message }: Json): LockerdError {
  return new LockerdError(
    // What the helper denies lockerd is not denied to the caller.
    isErrorCode(error) && error !== 'AccessDenied' ? error : 'Failed',
    typeof message === 'string' && message !== ''
      ? message
      : 'the helper of lockerd gave no reason',
  );
}

function cancelled(verb: string): LockerdError {
  return new LockerdError('Cancelled', `${verb} was cancelled`);
}

export function whyNoAnswer(verb: string, error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'EACCES') {
    return 'the helper of lockerd cannot be reached; see "systemctl status lockerd-helper.socket"';
  }
  return `the helper of lockerd gave no sound answer (${verb}); see "journalctl -t lockerd-helper"`;
}
