import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { printable } from '../model/unit-syntax.ts';

/** syslog(3) priorities, as the kernel's log and the journal read them in front of a line. */
type Priority = 3 | 4;

/** The kernel refuses a record of more than about 1000 bytes. */
const kmsgMaxBytes = 900;

/** Opens the kernel's log; undefined where there is none. */
function openKmsg(): number | undefined {
  try {
    // In a container a FIFO may stand here that nobody reads: never wait for it.
    return openSync('/dev/kmsg', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // Without /dev/kmsg standard error has to do.
    return undefined;
  }
}

/** Sends messages to /dev/kmsg, all there is so early at boot, and to standard error. */
export class KernelLog {
  private readonly program: string;
  private readonly kmsg: number | undefined;

  constructor(program: string, toKmsg: boolean) {
    this.program = program;
    this.kmsg = toKmsg ? openKmsg() : undefined;
  }

  write(priority: Priority, message: string): void {
    const line = printable(message);
    process.stderr.write(`${this.program}: ${priority === 4 ? 'warning: ' : ''}${line}\n`);
    if (this.kmsg === undefined) return;
    try {
      const record = Buffer.from(`<${priority}>${this.program}: ${line}`).subarray(0, kmsgMaxBytes);
      // A single write: each one is a record of its own.
      writeSync(this.kmsg, Buffer.concat([record, Buffer.from('\n')]));
    } catch {
      // The log is full or gone; standard error had the message.
    }
  }

  close(): void {
    if (this.kmsg !== undefined) closeSync(this.kmsg);
  }
}
