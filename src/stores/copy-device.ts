import { open } from 'node:fs/promises';
import { LockerdError } from '../model/errors.ts';
import type { Making } from './driver.ts';

const blockBytes = 4 * 1024 * 1024;
/** What is read is flushed so often that a cancelled copy does not have gigabytes to write still. */
const flushBytes = 256 * 1024 * 1024;

/** Copies `size` bytes of a device to another one, and waits until they are written. Throws Cancelled. */
export async function copyDevice(
  from: string,
  to: string,
  size: number,
  { signal, progress }: Making,
): Promise<void> {
  const source = await open(from, 'r');
  try {
    const target = await open(to, 'r+');
    try {
      const buffer = Buffer.alloc(blockBytes);
      for (let at = 0; at < size;) {
        if (signal?.aborted === true) {
          throw new LockerdError('Cancelled', 'the caller has left, and the copy was given up');
        }
        const { bytesRead } = await source.read(buffer, 0, Math.min(blockBytes, size - at), at);
        if (bytesRead === 0) throw new LockerdError('Failed', `${from} ended before ${size} bytes`);
        for (let done = 0; done < bytesRead;) {
          const { bytesWritten } = await target.write(buffer, done, bytesRead - done, at + done);
          done += bytesWritten;
        }
        at += bytesRead;
        if (at % flushBytes === 0) await target.datasync();
        progress('copy', at / size);
      }
      await target.sync();
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}
