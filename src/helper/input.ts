import type { Readable } from 'node:stream';
import { LockerdError } from '../model/errors.ts';
import { requestMaxBytes } from './request.ts';

const requestDeadlineMs = 5000;

/** Reads one line, without its newline. Throws InvalidArgs if it is too long, late or incomplete. */
export async function readRequest(
  input: Readable,
  deadlineMs = requestDeadlineMs,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const end = (error: string | undefined, line?: Buffer): void => {
      clearTimeout(timer);
      input.pause();
      input.removeAllListeners('data').removeAllListeners('end').removeAllListeners('error');
      // A connection that breaks later must not end the request half-way.
      input.on('error', () => undefined);
      if (line !== undefined) resolve(line);
      else reject(new LockerdError('InvalidArgs', error ?? ''));
    };
    const timer = setTimeout(() => {
      end('no whole request came in time');
    }, deadlineMs);
    input.on('data', (chunk: Buffer) => {
      const newline = chunk.indexOf(0x0a);
      chunks.push(newline < 0 ? chunk : chunk.subarray(0, newline));
      length += chunk.length;
      if (length > requestMaxBytes) end(`the request is longer than ${requestMaxBytes} bytes`);
      else if (newline >= 0 && newline + 1 < chunk.length) end('there is more than one request');
      else if (newline >= 0) end(undefined, Buffer.concat(chunks));
    });
    input.on('end', () => {
      end('the connection ended before the request');
    });
    input.on('error', () => {
      end('the connection broke before the request');
    });
  });
}

/** A signal that aborts when the client closes its connection after its request was read. */
export function whenLeft(input: Readable): AbortSignal {
  const left = new AbortController();
  const abort = (): void => {
    left.abort();
  };
  if (input.readableEnded || input.destroyed) abort();
  input.once('end', abort).once('close', abort).once('error', abort).resume();
  return left.signal;
}

/** A function, because TypeScript would assume that a second check, after an await, is still false. */
export function hasLeft(signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true;
}
