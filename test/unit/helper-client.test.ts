import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HelperClient } from '../../src/adapters/helper-client.ts';
import type { LxcStatus } from '../../src/core/ports.ts';

/** What a connection is answered with, given its request; by default it stays open. */
type Script = (request: unknown, socket: net.Socket) => void;

let directory: string;
let socketPath: string;
let server: net.Server;
let requests: unknown[];
let closed: number;
let script: Script;
const open = new Set<net.Socket>();

beforeEach(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lockerd-helper-'));
  socketPath = path.join(directory, 'sock');
  requests = [];
  closed = 0;
  server = net.createServer((socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      open.delete(socket);
      closed++;
    });
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk.toString();
      if (!text.endsWith('\n')) return;
      const request: unknown = JSON.parse(text);
      requests.push(request);
      script(request, socket);
    });
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
});
afterEach(async () => {
  for (const socket of open) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  fs.rmSync(directory, { recursive: true });
});

const silenceMs = {
  ...{ attach: 300, detach: 300, freeze: 300, thaw: 300, balloon: 300 },
  'set-limits': 300,
  'apply-limits': 300,
  ...{ 'set-autostart': 300, look: 300 },
};

function client(): HelperClient {
  return new HelperClient(socketPath, {
    silenceMs,
    reconnectMinMs: 10,
    reconnectMaxMs: 50,
    readyMs: 500,
  });
}

function answering(...lines: string[]): Script {
  return (_request, socket) => socket.end(lines.map((line) => `${line}\n`).join(''));
}

const attach = { container: 'web', locker: 'data', readOnly: true, persist: false };

describe('a request', () => {
  test('is one line of JSON, and so is its answer', async () => {
    script = answering('{"ok":true,"changed":true}');
    expect(await client().attach(attach)).toEqual({ changed: true });
    script = answering('{"ok":true,"changed":true,"lazy":true}');
    const detach = { container: 'web', locker: 'data', force: true, persist: false };
    expect(await client().detach(detach)).toEqual({ changed: true, lazy: true });
    script = answering('{"ok":true}');
    await client().freeze('web');
    await client().thaw('web');
    expect(requests).toEqual([
      { verb: 'attach', ...attach },
      { verb: 'detach', ...detach },
      { verb: 'freeze', container: 'web' },
      { verb: 'thaw', container: 'web' },
    ]);
  });

  test('says whether the boot starts a container, and is told what starts it all the same', async () => {
    script = answering('{"ok":true,"changed":true,"warnings":["careful",7]}');
    const request = { container: 'web', autostart: false };
    expect(await client().setAutostart(request)).toEqual({ changed: true, warnings: ['careful'] });
    expect(requests).toEqual([{ verb: 'set-autostart', ...request }]);
  });

  test('has nothing in it that the helper does not know', async () => {
    script = answering('{"ok":true,"changed":false}');
    const more = { ...attach, more: 1 };
    await client().attach(more);
    expect(requests).toEqual([{ verb: 'attach', ...attach }]);
  });

  test('may be answered in pieces', async () => {
    script = (_request, socket) => {
      socket.write('{"ok":tr');
      setTimeout(() => socket.write('ue,"changed":true}\n'), 20);
    };
    expect(await client().attach(attach)).toEqual({ changed: true });
  });

  test.each([
    ['LockerBusy', 'LockerBusy'],
    ['NoSuchContainer', 'NoSuchContainer'],
    ['NotMounted', 'NotMounted'],
    ['LimitBelowUsage', 'LimitBelowUsage'],
    ['InvalidArgs', 'InvalidArgs'],
    ['AccessDenied', 'Failed'],
    ['toString', 'Failed'],
  ])('that the helper refuses with %s fails with %s', async (error, code) => {
    script = answering(JSON.stringify({ ok: false, error, message: 'because' }));
    await expect(client().attach(attach)).rejects.toMatchObject({ code, message: 'because' });
  });

  test.each([
    ['nothing', []],
    ['no JSON', ['nonsense']],
    ['no object', ['7']],
    ['null', ['null']],
    ['a line without end', ['x'.repeat(200_000)]],
    ['an error without a reason', ['{}']],
  ])('that is answered with %s fails', async (_what, lines) => {
    script = answering(...lines);
    await expect(client().attach(attach)).rejects.toMatchObject({
      code: 'Failed',
      message: expect.stringMatching(/^the helper of lockerd/) as string,
    });
  });

  test('that is not answered fails, and is left', async () => {
    script = () => undefined;
    await expect(client().attach(attach)).rejects.toMatchObject({ code: 'Failed' });
    await vi.waitFor(() => {
      expect(closed).toBe(1);
    });
  });

  test('to a helper that is not there says where to look', async () => {
    const nobody = new HelperClient(path.join(directory, 'nobody'));
    await expect(nobody.freeze('web')).rejects.toMatchObject({
      code: 'Failed',
      message: expect.stringContaining('systemctl status lockerd-helper.socket') as string,
    });
  });
});

describe('balloon', () => {
  const balloon = { container: 'web', limit: 1024n, force: false, persist: true };
  const noSwap = { ...balloon, swap: undefined };

  test('tells how far it is, and is not silent meanwhile', async () => {
    script = (_request, socket) => {
      let step = 0;
      const timer = setInterval(() => {
        step++;
        if (step < 6) {
          socket.write(`{"progress":${step / 10},"phase":"reclaiming"}\n`);
        } else {
          clearInterval(timer);
          socket.end('{"ok":true}\n');
        }
      }, 100);
    };
    const seen: [string, number][] = [];
    const never = new AbortController().signal;
    await client().balloon(noSwap, (...progress) => seen.push(progress), never);
    expect(seen).toHaveLength(5);
    expect(seen[4]).toEqual(['reclaiming', 0.5]);
    const more = { limit: 2n ** 64n - 1n, swap: 2048n };
    await expect(
      client().balloon({ ...balloon, ...more }, () => undefined, never),
    ).resolves.toEqual({ warnings: [], stallUsec: undefined });
    expect(requests).toEqual([
      { verb: 'balloon', ...balloon, limit: '1024' },
      { verb: 'balloon', ...balloon, limit: 'max', swap: '2048' },
    ]);
  });

  test.each<[unknown, bigint | undefined]>([
    [1500, 1500n],
    [-1, undefined],
    [0.5, undefined],
    ['1500', undefined],
  ])('with %j as the stall tells %s', async (stallUsec, told) => {
    script = answering(JSON.stringify({ ok: true, warnings: ['careful', 1], stallUsec }));
    const never = new AbortController().signal;
    await expect(client().balloon(noSwap, () => undefined, never)).resolves.toEqual({
      ...{ warnings: ['careful'], stallUsec: told },
    });
  });

  test('is left when it is cancelled', async () => {
    const cancel = new AbortController();
    script = () => {
      cancel.abort();
    };
    const ballooning = client().balloon(noSwap, () => undefined, cancel.signal);
    await expect(ballooning).rejects.toMatchObject({ code: 'Cancelled' });
    await vi.waitFor(() => {
      expect(closed).toBe(1);
    });
    await expect(client().balloon(noSwap, () => undefined, cancel.signal)).rejects.toMatchObject({
      code: 'Cancelled',
    });
    expect(requests).toHaveLength(1);
  });
});

describe('watch', () => {
  const state = (container: string, word: string, leader: number): string =>
    `${JSON.stringify({ event: 'state', container, state: word, leader })}\n`;

  test('tells all, then each change; reconnects, and notices what has gone meanwhile', async () => {
    const seen: LxcStatus[] = [];
    const ooms: string[] = [];
    const heard: (string | undefined)[] = [];
    let connections = 0;
    script = (_request, socket) => {
      connections++;
      if (connections === 1) {
        socket.write(state('a', 'RUNNING', 7) + state('b', 'STOPPED', 0));
        socket.write(state('c', 'STARTING', 0) + '{"event":"ready"}\n');
        socket.write(state('b', 'RUNNING', 8) + '{"event":"oom","container":"a"}\n');
        setTimeout(() => socket.end('{"event":"nonsense"}\nbroken\n'), 30);
      } else if (connections < 4) {
        // Broken again before it was ready: nothing is known to be gone.
        socket.end(state('b', 'RUNNING', 8));
      } else {
        socket.write(state('b', 'FROZEN', 8) + '{"event":"ready"}\n');
      }
    };
    const unwatch = await client().watch(
      (status) => seen.push(status),
      (container) => ooms.push(container),
      (problem) => heard.push(problem),
    );
    expect(seen.slice(0, 2)).toEqual([
      { container: 'a', state: 'RUNNING', leader: 7 },
      { container: 'b', state: 'STOPPED', leader: 0 },
    ]);
    await vi.waitFor(
      () => {
        expect(heard).toHaveLength(4);
      },
      { timeout: 10_000 },
    );
    // The first connection was lost, and the next two broke before they had told of all.
    expect(heard).toEqual([undefined, expect.any(String), expect.any(String), undefined]);
    // What was told before counts no longer, so nothing is told of as gone.
    expect(seen.at(-1)).toEqual({ container: 'b', state: 'FROZEN', leader: 8 });
    expect(ooms).toEqual(['a']);
    await unwatch();
    await vi.waitFor(() => {
      expect(open.size).toBe(0);
    });
  });

  test('a helper that takes longer than the first was given is waited for', async () => {
    script = (_request, socket) => {
      setTimeout(() => void socket.write('{"event":"ready"}\n'), 800).unref();
    };
    const heard: (string | undefined)[] = [];
    const nothing = (): undefined => undefined;
    const unwatch = await client().watch(nothing, nothing, (problem) => heard.push(problem));
    await vi.waitFor(() => {
      expect(heard.at(-1)).toBeUndefined();
    }, 5000);
    expect(heard).toHaveLength(2);
    await unwatch();
  });

  test('of a helper that is there again at once tells what has gone, and no trouble', async () => {
    const seen: LxcStatus[] = [];
    const heard: (string | undefined)[] = [];
    let connections = 0;
    script = (_request, socket) => {
      connections++;
      if (connections > 1) socket.write('{"event":"ready"}\n');
      else socket.end(state('a', 'RUNNING', 7) + '{"event":"ready"}\n');
    };
    const unwatch = await client().watch(
      (status) => seen.push(status),
      () => undefined,
      (problem) => heard.push(problem),
    );
    await vi.waitFor(() => {
      expect(seen.at(-1)).toEqual({ container: 'a', state: 'STOPPED', leader: 0 });
    });
    expect(new Set(heard)).toEqual(new Set([undefined]));
    await unwatch();
  });

  test.each<[string, Script, RegExp]>([
    [
      'refuses',
      answering('{"ok":false,"error":"AccessDenied","message":"only lockerd may ask"}'),
      /refuses to tell of containers: only lockerd may ask; see "journalctl -t lockerd-helper"/,
    ],
    ['says nothing', () => undefined, /no sound answer \(watch\); see "journalctl/],
    ['ends', answering(), /ended before it had told of all/],
    ['talks nonsense', answering('nonsense'), /no sound answer \(watch\)/],
  ])('of a helper that %s tells so, and goes on', async (_what, answer, message) => {
    script = answer;
    const heard: (string | undefined)[] = [];
    const nothing = (): undefined => undefined;
    const unwatch = await client().watch(nothing, nothing, (problem) => heard.push(problem));
    expect(heard).toEqual([expect.stringMatching(message)]);
    script = answering('{"event":"ready"}');
    await vi.waitFor(() => {
      expect(heard).toContain(undefined);
    });
    await unwatch();
  });

  test('of a helper that is not there says where to look', async () => {
    const nobody = new HelperClient(path.join(directory, 'nobody'));
    const nothing = (): undefined => undefined;
    const heard: (string | undefined)[] = [];
    await (
      await nobody.watch(nothing, nothing, (problem) => heard.push(problem))
    )();
    expect(heard).toEqual([expect.stringContaining('systemctl status lockerd-helper.socket')]);
  });
});
