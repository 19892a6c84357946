// Talks to the agent in a virtual test host: image/testhost-agent tells the format of the frames.

import { Buffer } from 'node:buffer';
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { clearTimeout, setTimeout } from 'node:timers';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {{ stdout: string, stderr: string, exitCode: number }} Result
 * @typedef {{ timeoutMs: number, input?: string | Buffer, env?: Record<string, string> }} Options
 * @typedef {{ out: Buffer[], err: Buffer[], end: (exitCode: number) => void }} Program
 */

const headerLength = 9;
const largestFrame = 1 << 16;

/** Emits `begin` with the boot's id whenever the agent starts, and `lost` at the end of the VM. */
export class Agent extends EventEmitter {
  #socket;
  #incoming = Buffer.alloc(0);
  #next = 1;
  /** @type {Map<number, Program>} */
  #programs = new Map();

  /** @param {net.Socket} socket */
  constructor(socket) {
    super();
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#incoming = Buffer.concat([this.#incoming, chunk]);
      this.#receive();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#loseAll('the virtual machine is gone');
      this.emit('lost');
    });
  }

  /**
   * Connects as soon as the machine emulator listens.
   * @param {string} path
   * @param {number} timeoutMs
   */
  static async connect(path, timeoutMs = 60_000) {
    for (const end = Date.now() + timeoutMs; ;) {
      const socket = net.connect(path);
      try {
        await once(socket, 'connect');
        return new Agent(socket);
      } catch (error) {
        if (Date.now() > end) throw error;
        await sleep(50);
      }
    }
  }

  close() {
    this.#socket.destroy();
  }

  /** Asks for the boot's id, which `begin` brings. */
  hello() {
    this.#send(0, 'h', Buffer.alloc(0));
  }

  /**
   * Runs a program to its end; rejects only when it does not end in time. Exit status 255 with a
   * word on stderr when the VM went down meanwhile.
   * @param {string[]} command
   * @param {Options} options
   * @returns {Promise<Result>}
   */
  execute(command, { timeoutMs, input = '', env = {} }) {
    const id = this.#next++;
    const variables = Object.entries(env).map(([key, value]) => `${key}=${value}`);
    const description = `${command.join('\0')}\0\0${variables.join('\0')}`;
    return new Promise((resolve, reject) => {
      /** @type {Buffer[]} */
      const out = [];
      /** @type {Buffer[]} */
      const err = [];
      const texts = () => ({
        stdout: Buffer.concat(out).toString(),
        stderr: Buffer.concat(err).toString(),
      });
      const timer = setTimeout(() => {
        this.#programs.delete(id);
        this.#send(id, 'k', Buffer.alloc(0));
        const { stdout, stderr } = texts();
        reject(new Error(`${command.join(' ')}: no end after ${timeoutMs} ms\n${stdout}${stderr}`));
      }, timeoutMs);
      this.#programs.set(id, {
        out,
        err,
        end: (exitCode) => {
          clearTimeout(timer);
          this.#programs.delete(id);
          resolve({ ...texts(), exitCode });
        },
      });
      this.#send(id, 'x', Buffer.from(description));
      const data = Buffer.from(input);
      for (let at = 0; at < data.length; at += largestFrame) {
        this.#send(id, 'i', data.subarray(at, at + largestFrame));
      }
      this.#send(id, 'i', Buffer.alloc(0));
    });
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {Buffer} data
   */
  #send(id, type, data) {
    const header = Buffer.alloc(headerLength);
    header.writeUInt32BE(id, 0);
    header.write(type, 4, 'latin1');
    header.writeUInt32BE(data.length, 5);
    this.#socket.write(Buffer.concat([header, data]));
  }

  #receive() {
    for (;;) {
      if (this.#incoming.length < headerLength) return;
      const end = headerLength + this.#incoming.readUInt32BE(5);
      if (this.#incoming.length < end) return;
      const id = this.#incoming.readUInt32BE(0);
      const type = this.#incoming.toString('latin1', 4, 5);
      const data = this.#incoming.subarray(headerLength, end);
      this.#incoming = this.#incoming.subarray(end);
      this.#handle(id, type, data);
    }
  }

  /**
   * @param {number} id
   * @param {string} type
   * @param {Buffer} data
   */
  #handle(id, type, data) {
    if (type === 'b') this.#loseAll('the agent started anew');
    if (type === 'b' || type === 'h') {
      this.emit('begin', data.toString());
      return;
    }
    const program = this.#programs.get(id);
    if (type === 'o') program?.out.push(data);
    else if (type === 'e') program?.err.push(data);
    else if (type === 'x') program?.end(data.readUInt32BE(0));
  }

  /** @param {string} reason */
  #loseAll(reason) {
    for (const { err, end } of [...this.#programs.values()]) {
      err.push(Buffer.from(`${reason}\n`));
      end(255);
    }
  }
}
