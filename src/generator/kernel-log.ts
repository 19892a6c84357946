import { utf8Bytes } from '../model/utf8.ts';
import { printable } from '../model/unit-syntax.ts';
import { system } from '../host/system.ts';

/** syslog(3) priorities, as the kernel's log and the journal read them in front of a line. */
type Priority = 3 | 4;

/** The kernel refuses a record of more than about 1000 bytes. */
const kmsgMaxBytes = 900;

/** Sends messages to /dev/kmsg, all there is so early at boot, and to standard error. */
export class KernelLog {
  private readonly program: string;
  private readonly kmsg: number | undefined;

  constructor(program: string, toKmsg: boolean) {
    this.program = program;
    // In a container a FIFO may stand here that nobody reads; without it, standard error has to do.
    this.kmsg = toKmsg ? system.openRecords('/dev/kmsg') : undefined;
  }

  write(priority: Priority, message: string): void {
    const line = printable(message);
    system.print('error', `${this.program}: ${priority === 4 ? 'warning: ' : ''}${line}\n`);
    if (this.kmsg === undefined) return;
    try {
      const record = utf8Bytes(`<${priority}>${this.program}: ${line.slice(0, kmsgMaxBytes)}`);
      system.writeRecord(this.kmsg, [...record.slice(0, kmsgMaxBytes), 0x0a]);
    } catch {
      // The log is full or gone; standard error had the message.
    }
  }

  close(): void {
    if (this.kmsg !== undefined) system.close(this.kmsg);
  }
}
