import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { PolkitAuthority } from '../../src/adapters/polkit.ts';
import type { BusConnection, Signal } from '../../src/bus/connection.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('changes that follow each other are told at once and then once a second', async () => {
  let tellOfChange: () => void = () => undefined;
  const connection = {
    call: () => Promise.resolve([]),
    subscribe: ({ member }: { member?: string }, handler: (signal: Signal) => void) => {
      if (member === 'Changed') {
        tellOfChange = () => {
          handler({ body: [] } as unknown as Signal);
        };
      }
      return Promise.resolve(() => Promise.resolve());
    },
  } as unknown as BusConnection;
  const authority = await PolkitAuthority.connect(connection);
  let told = 0;
  authority.onPermissionsChanged(() => told++);
  const after = (ms: number): number => {
    vi.advanceTimersByTime(ms);
    return told;
  };
  tellOfChange();
  expect(told).toBe(1);
  for (let change = 0; change < 20; change++) tellOfChange();
  expect(after(900)).toBe(1);
  // The last one is not lost.
  expect(after(200)).toBe(2);
  expect(after(10_000)).toBe(2);
  tellOfChange();
  expect(told).toBe(3);
});
