import type { ChildProcess } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { PolkitAuthority } from '../../src/adapters/polkit.ts';
import type { ServiceConnection } from '../../src/bus/connection.ts';
import type { ActionDetails, ActionId, AuthorizationRequest } from '../../src/core/ports.ts';
import { actionIds } from '../../src/core/ports.ts';
import { emptyDetails } from '../../src/core/request-plan.ts';
import { type PrivateBus, startPolkit, startPrivateBus } from './bus.ts';
import { Caller } from './agent.ts';

const checkout = path.resolve(import.meta.dirname, '../..');
/** "games" of every Debian: neither root nor the owner of the actions. */
const callerUid = 5;

let bus: PrivateBus;
let polkitd: ChildProcess;
let rulesDir: string;
let connection: ServiceConnection;
let authority: PolkitAuthority;
let caller: Caller;

/** Rules that grant by container, locker and mode. */
const rules = `
polkit.addRule(function (action, subject) {
    var container = action.lookup("container");
    if (action.id === "org.lockerd1.mount-locker") {
        if (container === "bunker" && action.lookup("locker") === "bunker_vol" &&
            action.lookup("mode") === "ro") return polkit.Result.YES;
        if (container === "forbidden") return polkit.Result.NO;
        return polkit.Result.AUTH_SELF;
    }
    if (action.id === "org.lockerd1.start" && container === "web") return polkit.Result.YES;
    return polkit.Result.NOT_HANDLED;
});
`;

/**
 * The packaged actions, owned by the user that the tests run as: only an owner may ask about
 * others and pass details.
 */
function writeActions(directory: string): void {
  const policy = fs.readFileSync(path.join(checkout, 'units/polkit/org.lockerd1.policy'), 'utf8');
  const owned = policy.replaceAll('unix-user:lockerd', 'unix-user:daemon');
  fs.writeFileSync(path.join(directory, 'org.lockerd1.policy'), owned);
}

/** polkitd sees a file with a new name at once, and tells of it. */
function writeRules(text: string): void {
  const draft = path.join(rulesDir, 'draft');
  fs.writeFileSync(draft, text, { mode: 0o644 });
  fs.renameSync(draft, path.join(rulesDir, '50-test.rules'));
}

beforeEach(async () => {
  bus = await startPrivateBus();
  const actionsDir = path.join(bus.directory, 'actions');
  rulesDir = path.join(bus.directory, 'rules');
  fs.mkdirSync(actionsDir, { mode: 0o755 });
  fs.mkdirSync(rulesDir, { mode: 0o755 });
  writeActions(actionsDir);
  writeRules(rules);
  polkitd = await startPolkit(bus, { actionsDir, rulesDir });
  connection = await bus.connect();
  authority = await PolkitAuthority.connect(connection, { checkMs: 3000, pingMs: 500 });
  caller = await Caller.connect(bus, callerUid);
}, 60_000);
afterEach(async () => {
  polkitd.kill('SIGCONT');
  await bus.close();
});

function request(
  action: ActionId,
  details: Partial<ActionDetails>,
  more: Partial<AuthorizationRequest> = {},
): AuthorizationRequest {
  return {
    sender: caller.uniqueName,
    action,
    details: { ...emptyDetails, ...details },
    interactive: false,
    signal: new AbortController().signal,
    ...more,
  };
}

const unavailable = { code: 'AuthorityUnavailable' };

describe('rules', () => {
  test('decide by container, locker and mode', async () => {
    const mount = (container: string, locker: string, mode: 'ro' | 'rw'): Promise<string> =>
      authority.check(request('org.lockerd1.mount-locker', { container, locker, mode }));
    expect(await mount('bunker', 'bunker_vol', 'ro')).toBe('yes');
    expect(await mount('bunker', 'bunker_vol', 'rw')).toBe('challenge');
    expect(await mount('bunker', 'other', 'ro')).toBe('challenge');
    expect(await mount('web', 'bunker_vol', 'ro')).toBe('challenge');
    expect(await mount('forbidden', 'bunker_vol', 'ro')).toBe('no');
    expect(authority.state).toBe('polkit');
  });

  test('decide nothing where there is none: the packaged default asks an administrator', async () => {
    for (const action of actionIds) {
      expect(await authority.check(request(action, { container: 'db' })), action).not.toBe('yes');
    }
  });

  test('may change under way', async () => {
    let changes = 0;
    authority.onPermissionsChanged(() => changes++);
    const start = request('org.lockerd1.start', { container: 'web' });
    expect(await authority.check(start)).toBe('yes');
    writeRules('polkit.addRule(function () { return polkit.Result.NO; });');
    await vi.waitFor(
      async () => {
        expect(await authority.check(start)).toBe('no');
        expect(changes).toBeGreaterThan(0);
      },
      { timeout: 20_000 },
    );
  });

  test('do not hold root back', async () => {
    const sender = connection.uniqueName;
    const check = request('org.lockerd1.balloon', { container: 'forbidden' }, { sender });
    expect(await authority.check(check)).toBe('yes');
  });
});

describe('a prompt', () => {
  const prompted = (more: Partial<AuthorizationRequest> = {}): AuthorizationRequest =>
    request(
      'org.lockerd1.mount-locker',
      { container: 'web', locker: 'data', mode: 'rw' },
      { interactive: true, ...more },
    );

  test('names container and locker, and a good password is a yes', async () => {
    await caller.becomeAgent('right');
    expect(await authority.check(prompted())).toBe('yes');
    expect(caller.messages).toEqual([
      "Authentication is required to attach the locker 'data' to the container 'web' (rw).",
    ]);
  });

  test('is asked for again each time', async () => {
    await caller.becomeAgent('right');
    expect(await authority.check(prompted())).toBe('yes');
    expect(await authority.check(prompted())).toBe('yes');
    expect(caller.messages).toHaveLength(2);
  });

  test('is not shown to a caller that did not ask for one', async () => {
    await caller.becomeAgent('right');
    expect(await authority.check(prompted({ interactive: false }))).toBe('challenge');
    expect(caller.messages).toEqual([]);
  });

  test('is dismissed', async () => {
    await caller.becomeAgent('dismissed');
    expect(await authority.check(prompted())).toBe('dismissed');
  });

  test('is answered wrongly', async () => {
    await caller.becomeAgent('wrong');
    expect(await authority.check(prompted())).not.toBe('yes');
  });

  test('finds nobody to ask', async () => {
    expect(await authority.check(prompted())).toBe('challenge');
  });

  test('closes when the caller leaves', async () => {
    await caller.becomeAgent('waits');
    const gone = new AbortController();
    const answer = authority.check(prompted({ signal: gone.signal }));
    await vi.waitFor(() => {
      expect(caller.messages).toHaveLength(1);
    });
    gone.abort();
    await expect(answer).rejects.toMatchObject({ code: 'Cancelled' });
    await vi.waitFor(() => {
      expect(caller.cancelled).toBe(1);
    });
    // The place is free for the next one.
    await expect(authority.check(prompted({ signal: AbortSignal.abort() }))).rejects.toMatchObject({
      code: 'Cancelled',
    });
    expect(caller.messages).toHaveLength(1);
  });

  test('may stay open for longer than a check may take', async () => {
    await caller.becomeAgent('waits');
    const answer = authority.check(prompted());
    await vi.waitFor(() => {
      expect(caller.messages).toHaveLength(1);
    });
    await sleep(5000);
    await caller.answerNow('right');
    expect(await answer).toBe('yes');
  });

  test('that nobody ever answers is dismissed', async () => {
    await caller.becomeAgent('waits');
    const impatient = await PolkitAuthority.connect(connection, { promptMs: 1000 });
    expect(await impatient.check(prompted())).toBe('dismissed');
    await vi.waitFor(() => {
      expect(caller.cancelled).toBe(1);
    });
  });

  test('ends when polkitd hangs meanwhile', async () => {
    await caller.becomeAgent('waits');
    const answer = authority.check(prompted());
    await vi.waitFor(() => {
      expect(caller.messages).toHaveLength(1);
    });
    polkitd.kill('SIGSTOP');
    await expect(answer).rejects.toMatchObject(unavailable);
    expect(authority.state).toBe('polkit does not answer');
  });

  test('is one of a bounded number', async () => {
    await caller.becomeAgent('waits');
    const gone = new AbortController();
    const all = Array.from({ length: 41 }, () =>
      authority.check(prompted({ signal: gone.signal })).catch((error: unknown) => error),
    );
    await expect(all[40]).resolves.toMatchObject({ code: 'LimitsExceeded' });
    // Others are still answered.
    expect(await authority.check(request('org.lockerd1.start', { container: 'web' }))).toBe('yes');
    gone.abort();
    for (const one of all.slice(0, 40)) {
      await expect(one).resolves.toMatchObject({ code: 'Cancelled' });
    }
  });
});

describe('polkit that is not there', () => {
  test('allows nothing, not even to root, and is back when it is back', async () => {
    const states: string[] = [];
    authority.onStateChanged(() => states.push(authority.state));
    const start = request('org.lockerd1.start', { container: 'web' });
    expect(await authority.check(start)).toBe('yes');
    polkitd.kill('SIGKILL');
    await vi.waitFor(() => {
      expect(authority.state).toBe('polkit is not running');
    });
    await expect(authority.check(start)).rejects.toMatchObject(unavailable);
    await expect(
      authority.check({ ...start, sender: connection.uniqueName }),
    ).rejects.toMatchObject(unavailable);
    polkitd = await startPolkit(bus, { actionsDir: path.join(bus.directory, 'actions'), rulesDir });
    await vi.waitFor(() => {
      expect(authority.state).toBe('polkit');
    });
    expect(await authority.check(start)).toBe('yes');
    expect(states.length).toBeGreaterThanOrEqual(2);
  });

  test('or hangs allows nothing, and the caller hears so soon', async () => {
    const start = request('org.lockerd1.start', { container: 'web' });
    polkitd.kill('SIGSTOP');
    const before = Date.now();
    await expect(authority.check(start)).rejects.toMatchObject(unavailable);
    expect(Date.now() - before).toBeLessThan(10_000);
    expect(authority.state).toBe('polkit does not answer');
    polkitd.kill('SIGCONT');
    await vi.waitFor(async () => {
      expect(await authority.check(start)).toBe('yes');
    });
    expect(authority.state).toBe('polkit');
  });

  test('knows no action that is not installed', async () => {
    fs.rmSync(path.join(bus.directory, 'actions', 'org.lockerd1.policy'));
    await vi.waitFor(
      async () => {
        const check = authority.check(request('org.lockerd1.start', { container: 'web' }));
        await expect(check).rejects.toMatchObject(unavailable);
      },
      { timeout: 20_000 },
    );
  });
});

describe('the example rules', () => {
  function example(name: string, group: string): string {
    const text = fs.readFileSync(path.join(checkout, 'src/examples/rules', name), 'utf8');
    // A group that the caller is in on every Debian.
    const own = text.replace(`isInGroup("${group}")`, 'isInGroup("games")');
    expect(own).not.toBe(text);
    return own;
  }

  async function allows(
    action: ActionId,
    details: Partial<ActionDetails>,
    more: Partial<AuthorizationRequest> = {},
  ): Promise<string> {
    return authority.check(request(action, details, more));
  }

  test('of a group with its own lockers and containers', async () => {
    writeRules(example('60-bunker.rules', 'bunker'));
    const mine = { container: 'bunker-1', locker: 'bunker-data', mode: 'rw' } as const;
    await vi.waitFor(async () => {
      expect(await allows('org.lockerd1.mount-locker', mine)).toBe('yes');
    }, 20_000);
    expect(await allows('org.lockerd1.unmount-locker', mine)).toBe('yes');
    for (const [action, details] of [
      ['org.lockerd1.mount-locker', { ...mine, container: 'web' }],
      ['org.lockerd1.mount-locker', { ...mine, container: 'web-bunker' }],
      ['org.lockerd1.mount-locker', { ...mine, container: 'bunkerer' }],
      ['org.lockerd1.mount-locker', { ...mine, locker: 'data' }],
      ['org.lockerd1.mount-locker', { ...mine, persist: 'true' }],
      ['org.lockerd1.unmount-locker-force', mine],
      ['org.lockerd1.start', mine],
    ] as const) {
      expect(await allows(action, details), JSON.stringify([action, details])).not.toBe('yes');
    }
    const other = await Caller.connect(bus, 2);
    const more = { sender: other.uniqueName };
    expect(await allows('org.lockerd1.mount-locker', mine, more)).not.toBe('yes');
  });

  test('of users with lockers of their own, in number and size bounded', async () => {
    writeRules(example('60-lockers.rules', 'lockers'));
    const gibibyte = 2 ** 30;
    const one = {
      ...{ locker: 'games-a', store: 'users', size: String(gibibyte), owner: '0:0', mode: '0750' },
      ...{ 'user-lockers': '3', 'user-size': String(19 * gibibyte) },
    } as const;
    const mine = { ...one, own: 'true' } as const;
    await vi.waitFor(async () => {
      expect(await allows('org.lockerd1.create-locker', one)).toBe('yes');
    }, 20_000);
    for (const [action, details] of [
      ['org.lockerd1.grow-locker', mine],
      ['org.lockerd1.restore-locker', { ...mine, name: 'games-b' }],
      ['org.lockerd1.rename-locker', { ...mine, name: 'games-b' }],
      ['org.lockerd1.snapshot-locker', { ...mine, snapshots: '7', freeze: 'false' }],
      ['org.lockerd1.forget-locker', mine],
      ['org.lockerd1.mount-locker', { locker: 'games-a', container: 'games-web' }],
    ] as const) {
      expect(await allows(action, details), JSON.stringify([action, details])).toBe('yes');
    }
    for (const [action, details] of [
      ['org.lockerd1.create-locker', { ...one, locker: 'bob-a' }],
      ['org.lockerd1.create-locker', { ...one, store: 'other' }],
      ['org.lockerd1.create-locker', { ...one, size: String(gibibyte + 1) }],
      ['org.lockerd1.create-locker', { ...one, 'user-lockers': '4' }],
      ['org.lockerd1.grow-locker', { ...mine, own: 'false' }],
      ['org.lockerd1.grow-locker', { ...mine, size: String(2 * gibibyte) }],
      ['org.lockerd1.restore-locker', { ...mine, name: 'bob-b' }],
      ['org.lockerd1.restore-locker', { ...mine, name: 'games-b', 'user-lockers': '4' }],
      ['org.lockerd1.rename-locker', { ...mine, name: 'bob-b' }],
      ['org.lockerd1.snapshot-locker', { ...mine, snapshots: '8', freeze: 'false' }],
      ['org.lockerd1.snapshot-locker', { ...mine, snapshots: '1', freeze: 'true' }],
      ['org.lockerd1.forget-locker', { ...mine, own: 'false' }],
      ['org.lockerd1.mount-locker', { locker: 'games-a', container: 'web' }],
      ['org.lockerd1.mount-locker', { locker: 'bob-a', container: 'games-web' }],
      ['org.lockerd1.start', { container: 'games-web' }],
    ] as const) {
      expect(await allows(action, details), JSON.stringify([action, details])).not.toBe('yes');
    }
  });

  test('of operators, who may start and stop but not balloon', async () => {
    writeRules(example('60-operators.rules', 'operators'));
    const web = { container: 'any' };
    await vi.waitFor(async () => {
      expect(await allows('org.lockerd1.start', web)).toBe('yes');
    }, 20_000);
    expect(await allows('org.lockerd1.stop', web)).toBe('yes');
    expect(await allows('org.lockerd1.reboot', web)).toBe('yes');
    expect(await allows('org.lockerd1.stop-force', web)).not.toBe('yes');
    expect(await allows('org.lockerd1.balloon', web)).toBe('no');
    expect(await allows('org.lockerd1.balloon', web, { interactive: true })).toBe('no');
    const other = await Caller.connect(bus, 2);
    expect(await allows('org.lockerd1.start', web, { sender: other.uniqueName })).not.toBe('yes');
  });
});

describe('the owner of the actions', () => {
  const ask = (uid: number): ReturnType<PrivateBus['run']> =>
    bus.run(
      [
        ...['busctl', `--address=${bus.address}`, 'call', 'org.freedesktop.PolicyKit1'],
        ...['/org/freedesktop/PolicyKit1/Authority', 'org.freedesktop.PolicyKit1.Authority'],
        ...['CheckAuthorization', '(sa{sv})sa{ss}us', 'system-bus-name', '1', 'name', 's'],
        ...[caller.uniqueName, 'org.lockerd1.start', '1', 'container', 'web', '0', 'x'],
      ],
      { uid },
    );

  test('may ask about others without being root, and nobody else may', async () => {
    expect(await ask(1)).toMatchObject({
      exitCode: 0,
      stdout: expect.stringContaining('(bba{ss}) true false') as string,
    });
    expect(await ask(2)).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('Only trusted callers') as string,
    });
  });
});
