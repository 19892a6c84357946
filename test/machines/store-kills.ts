/** Kills changes of lockers at steps that are spread over all that they have, and cuts them off. */

import { beforeAll, describe, expect, test } from 'vitest';
import { countedSteps, installKillPoints, orderAt, spread, untilRecovered } from './kill-points.ts';
import {
  askFor,
  done,
  expectClean,
  inspect,
  mebibyte,
  newLocker,
  stateOf,
  type Json,
  type StoreKind,
} from './stores.ts';
import type { TestHost } from './test-host.ts';

const makingVerbs = ['create', 'snapshot', 'restore', 'rename', 'forget'] as const;
type MakingVerb = (typeof makingVerbs)[number];
const allVerbs = [...makingVerbs, 'grow', 'adopt', 'destroy a snapshot', 'destroy'] as const;
type Verb = (typeof allVerbs)[number];

/** A change, and how it is undone without one of the helper's where that is quicker. */
interface Killed {
  readonly value: Json;
  readonly back: string;
}

const locker = 'kept';

/** Drops the definition of a locker with its mount. */
const undefine = (name: string): string => `
  if mountpoint -q /lockers/${name}; then umount /lockers/${name}; fi
  rmdir /lockers/${name} 2>/dev/null || true
  rm -f /etc/systemd/system/lockers-${name}.mount /etc/systemd/system/local-fs.target.wants/lockers-${name}.mount
  sed -i '\\, /lockers/${name} ,d' /etc/fstab
  if test -e /etc/crypttab; then sed -i '/locker-${name}/d' /etc/crypttab; fi
  systemctl daemon-reload`;

/** Each verb with a request; those that make something of "kept" leave it as it is. */
function killedVerbs(kind: StoreKind): Record<MakingVerb, Killed> {
  const { store, remove, removeSnapshot } = kind;
  const fresh = (name: string): string => `${undefine(name)}\n${remove(name)}`;
  const succeeds = (value: Json): string => `${askFor(value)} | grep -q '"ok":true'`;
  const snapshot = { verb: 'snapshot-locker', locker, snapshot: 'next', freeze: false };
  const restore = { verb: 'restore-locker', locker, snapshot: 'good', name: 'copy', creator: '0' };
  const adopt = { verb: 'adopt-locker', locker, store, creator: '0' };
  const forget = { verb: 'forget-locker', locker };
  const rename = { verb: 'rename-locker', locker, name: 'other' };
  const renameBack = { verb: 'rename-locker', locker: 'other', name: locker };
  return {
    create: { value: newLocker(kind, 'fresh'), back: fresh('fresh') },
    snapshot: { value: snapshot, back: removeSnapshot(locker, 'next') },
    restore: { value: restore, back: fresh('copy') },
    rename: { value: rename, back: succeeds(renameBack) },
    forget: { value: forget, back: succeeds(adopt) },
  };
}

/** Makes the locker that the others are about: with words in it, and a snapshot of them. */
export async function makeKept(host: TestHost, kind: StoreKind): Promise<void> {
  await installKillPoints(host);
  await done(host, newLocker(kind, locker));
  await host.shell(`echo kept > /lockers/${locker}/words; sync`);
  await done(host, { verb: 'snapshot-locker', locker, snapshot: 'good', freeze: false });
}

/** One kill, until what it left was brought to an end; nothing half-made may be there then. */
async function kill(host: TestHost, at: number, value: Json): Promise<void> {
  const script = `${orderAt(at)}\n${askFor(value)}\ntest ! -e /run/kill-steps || echo 'came to its end'
    ${untilRecovered}${inspect}`;
  const { stdout } = await host.shell(script, { timeoutMs: 600_000 });
  const said = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('{"progress"'));
  expect(said, `killed at step ${at}`).toEqual([]);
}

/** Kills a change at so many steps. Afterwards all is as before it, or as after it. */
async function killEverywhere(
  host: () => TestHost,
  kind: StoreKind,
  { value, back }: Killed,
  kills: number,
): Promise<{ steps: number; whole: number; undone: number }> {
  const before = await stateOf(host(), kind);
  await host().shell(orderAt(0));
  await done(host(), value);
  const steps = await countedSteps(host());
  const after = await stateOf(host(), kind);
  expect(after).not.toBe(before);
  const goBack = () => host().shell(back, { timeoutMs: 300_000 });
  await goBack();
  expect(await stateOf(host(), kind)).toBe(before);
  const count = { steps, whole: 0, undone: 0 };
  for (const at of spread(kills, steps)) {
    await kill(host(), at, value);
    const now = await stateOf(host(), kind);
    if (now === after) {
      count.whole++;
      await goBack();
    } else {
      expect(now, `killed at step ${at}`).toBe(before);
      count.undone++;
    }
  }
  return count;
}

/** The sizes of a locker's place and of its file system. */
async function sizesOf(host: TestHost, kind: StoreKind): Promise<number[]> {
  const { stdout } = await host.shell(kind.sizes(locker), { timeoutMs: 180_000 });
  return stdout.trim().split(/\s+/).map(Number);
}

/** What has grown does not shrink, so that a killed growth is brought to its end. */
async function killGrowth(host: () => TestHost, kind: StoreKind, kills: number): Promise<number> {
  const grow = { verb: 'grow-locker', locker, size: `+${4 * mebibyte}` };
  const [first = 0] = await sizesOf(host(), kind);
  await host().shell(orderAt(0));
  await done(host(), grow);
  const steps = await countedSteps(host());
  const [second = 0] = await sizesOf(host(), kind);
  expect(second).toBeGreaterThanOrEqual(first + 4 * mebibyte);
  for (const at of spread(kills, steps)) {
    const [before = 0] = await sizesOf(host(), kind);
    await kill(host(), at, grow);
    const [place = 0, fileSystem = 0] = await sizesOf(host(), kind);
    // Killed before its record was written, it has not begun.
    expect([before, before + second - first], `killed at step ${at}`).toContain(place);
    // LUKS has a header on the volume; the sizes are of what it opens.
    expect(fileSystem, `killed at step ${at}`).toBe(place);
  }
  return steps;
}

interface Kills {
  /** At how many steps each change is killed; the more, the nearer to all that it has. */
  readonly kills: number;
  /** Whether makeKept() was called before. */
  readonly isMade?: boolean;
  /** Those that are killed; all by default. */
  readonly verbs?: readonly Verb[];
}

/** How many kills are asked for, of all verbs then. */
const asked = process.env['LOCKERD_TEST_KILLS'];

/** Tests of a store whose verbs are killed, as often as is usual or asked for. */
export function describeKills(
  host: () => TestHost,
  kind: StoreKind,
  { isMade = false, ...usual }: Kills,
): void {
  const { store } = kind;
  const kills = Number(asked ?? usual.kills);
  const verbs = asked === undefined ? (usual.verbs ?? allVerbs) : allVerbs;
  const succeeds = (value: Json): string => `${askFor(value)} | grep -q '"ok":true'`;
  const killAll = async (verb: Verb, killed: Killed): Promise<void> => {
    const count = await killEverywhere(host, kind, killed, kills);
    console.log(`${store}: ${verb}: ${JSON.stringify(count)}`);
  };
  const making = killedVerbs(kind);
  const ways: Record<Verb, () => Promise<void>> = {
    create: () => killAll('create', making.create),
    snapshot: () => killAll('snapshot', making.snapshot),
    restore: () => killAll('restore', making.restore),
    rename: () => killAll('rename', making.rename),
    forget: () => killAll('forget', making.forget),
    grow: async () => {
      const good = { locker, snapshot: 'good' };
      // LVM does not grow what has a copy on write.
      const isInTheWay = store === 'thick';
      if (isInTheWay) await done(host(), { verb: 'destroy-locker', store, ...good });
      console.log(`${store}: grow: ${await killGrowth(host, kind, kills)} steps`);
      if (isInTheWay) await done(host(), { verb: 'snapshot-locker', freeze: false, ...good });
    },
    adopt: async () => {
      const forget = { verb: 'forget-locker', locker };
      await done(host(), forget);
      const value = { verb: 'adopt-locker', locker, store, creator: '0' };
      await killAll('adopt', { value, back: succeeds(forget) });
      await done(host(), value);
    },
    'destroy a snapshot': async () => {
      // Of directories lockerd destroys only what is empty.
      if (store === 'files') return;
      const snapshot = { verb: 'snapshot-locker', locker, snapshot: 'good', freeze: false };
      const value = { verb: 'destroy-locker', locker, store, snapshot: 'good' };
      await killAll('destroy a snapshot', { value, back: succeeds(snapshot) });
    },
    destroy: async () => {
      const fresh = newLocker(kind, 'fresh');
      await done(host(), fresh);
      const value = { verb: 'destroy-locker', locker: 'fresh', store };
      await killAll('destroy', { value, back: succeeds(fresh) });
      await done(host(), value);
    },
  };

  describe(`killed at ${kills} steps, a change is whole or nothing is left of it`, () => {
    beforeAll(async () => {
      if (!isMade) await makeKept(host(), kind);
    });
    test.each(verbs)('%s', async (verb) => {
      await ways[verb]();
      expect(await host().readFile(`/lockers/${locker}/words`)).toBe('kept\n');
      await expectClean(host());
    });
  });
}

/** Makes, forgets and destroys lockers; nothing is left. */
export async function cycle(host: TestHost, kind: StoreKind, count: number): Promise<void> {
  const before = await stateOf(host, kind);
  const { store } = kind;
  const steps = [
    newLocker(kind, 'again'),
    { verb: 'forget-locker', locker: 'again' },
    { verb: 'destroy-locker', locker: 'again', store },
  ].map((value) => `${askFor(value)} | tail -n 1 | grep -q '"ok":true'`);
  for (let done = 0; done < count; done++)
    await host.shell(steps.join('\n'), { timeoutMs: 300_000 });
  expect(await stateOf(host, kind)).toBe(before);
  await expectClean(host);
  expect((await host.shell('ls -A /var/lib/lockerd/forgotten/*')).stdout).toBe('');
  await host.waitFor('systemd has forgotten it', async () => {
    const units =
      "systemctl list-units --all --plain --no-legend '*again*' 'lockerd-stores@*'; ls /dev/mapper | grep again";
    return (await host.run('sh', ['-c', units], { reject: false })).stdout === '';
  });
}
