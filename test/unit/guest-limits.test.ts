import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GroupV1 } from '../../src/cgroup/group-v1.ts';
import { GroupV2 } from '../../src/cgroup/group-v2.ts';
import { GuestV1 } from '../../src/cgroup/guest-v1.ts';
import { GuestV2 } from '../../src/cgroup/guest-v2.ts';
import { unlimited } from '../../src/model/memory-limit.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lockerd-limits-'));
  mkdirSync(join(root, 'guest'));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

/** Files are written in place, as the kernel's: what a shorter text leaves of a longer one stays. */
const put = (name: string, text: string): void => {
  writeFileSync(join(root, name), text);
};
const get = (name: string): string => readFileSync(join(root, name), 'utf8').trim();
const guestV1 = (): GuestV1 => new GuestV1(new GroupV1(root), new GroupV1(join(root, 'guest')));
const guestV2 = (): GuestV2 => new GuestV2(new GroupV2(root), new GroupV2(join(root, 'guest')));
const memory = 'memory.limit_in_bytes';
const sum = 'memory.memsw.limit_in_bytes';

test.each([
  ['is raised before memory’s limit', '6000', 4096n, 4096n, '8192', '8192'],
  ['is lowered after it', '6000', 1024n, 1024n, '6000', '2048'],
  ['is none without a limit of memory', '60', unlimited, 4096n, '-1', '-1'],
] as const)('on cgroup v1 the sum %s', async (_, before, limit, swap, sumMeanwhile, sumAfter) => {
  put(memory, '2000');
  put(sum, before);
  let meanwhile = '';
  await guestV1().setLimits({ memory: limit, swap }, () => {
    meanwhile = get(sum);
    return Promise.resolve();
  });
  expect([meanwhile, get(sum), get(memory)]).toEqual([sumMeanwhile, sumAfter, '2000']);
});

test('on cgroup v1 swap is left alone unless a limit of it is asked for and can be had', async () => {
  put(memory, '');
  put(sum, '6000');
  await guestV1().setLimits({ memory: 4096n });
  expect([get(memory), get(sum)]).toEqual(['4096', '6000']);
  rmSync(join(root, sum));
  put(memory, '');
  await guestV1().setLimits({ memory: unlimited, swap: 4096n });
  expect(get(memory)).toBe('-1');
  expect(guestV1().swapLimit()).toBeUndefined();
});

test('on cgroup v1 the sum stays when memory’s limit cannot be set', async () => {
  put(memory, '');
  put(sum, '6000');
  const refused = guestV1().setLimits({ memory: 1024n, swap: 0n }, () =>
    Promise.reject(new Error('refused')),
  );
  await expect(refused).rejects.toThrow('refused');
  expect(get(sum)).toBe('6000');
});

test('on cgroup v2 both limits are written, unless systemd does it', async () => {
  put('memory.max', '');
  put('memory.swap.max', '');
  await guestV2().setLimits({ memory: 8192n, swap: 4096n }, () => Promise.resolve());
  expect([get('memory.max'), get('memory.swap.max')]).toEqual(['', '']);
  await guestV2().setLimits({ memory: 8192n });
  expect([get('memory.max'), get('memory.swap.max')]).toEqual(['8192', '']);
  put('memory.max', '');
  put('memory.swap.max', '0');
  await guestV2().setLimits({ memory: unlimited, swap: 4096n });
  expect([get('memory.max'), get('memory.swap.max')]).toEqual(['max', '4096']);
  rmSync(join(root, 'memory.swap.max'));
  await expect(guestV2().setLimits({ memory: 8192n, swap: 4096n })).resolves.toBeUndefined();
});
