import { beforeEach, afterEach, expect, test, vi } from 'vitest';
import type { CompiledInterface, Property } from '../../src/bus/interface-table.ts';
import { ManagedObjects, managedSignature } from '../../src/bus/managed-objects.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';

let objects: ManagedObjects;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  objects = new ManagedObjects({
    paths: () => ['/web'],
    has: () => true,
    interfaces: () => [{ name: 'a.b', properties } as unknown as CompiledInterface],
    unreadable: () => undefined,
  });
});
afterEach(() => {
  vi.useRealTimers();
});

let figures: Record<string, unknown>;
let builds = 0;

function read(name: string): unknown {
  const value = figures[name];
  if (value === undefined) throw new Error(`${name} cannot be read`);
  return value;
}

const figure = (name: string, signature: string): [string, Property] => [
  name,
  { signature, emits: 'false', get: () => read(name) },
];

const properties = new Map<string, Property>([
  ['Name', { signature: 's', emits: 'const', get: () => `name ${++builds}` }],
  figure('Used', 't'),
  figure('Cpus', 's'),
  figure('Devices', 'a(st)'),
]);

async function told(): Promise<Record<string, unknown>> {
  // The last answer is kept for a moment.
  vi.advanceTimersByTime(1000);
  const { bytes } = await objects.answer();
  const [all] = unmarshal(managedSignature, Buffer.from(bytes)) as [
    Record<string, Record<string, Record<string, { value: unknown }>>>,
  ];
  const found = Object.entries(all['/web']?.['a.b'] ?? {});
  return Object.fromEntries(found.map(([name, { value }]) => [name, value]));
}

test('figures of any length are those of the moment, and an object is made anew only where they differ', async () => {
  figures = { Used: 1n, Cpus: '0-1', Devices: [['8:0', 5n]] };
  expect(await told()).toEqual({ Name: 'name 1', ...figures });
  figures = { Used: 2n, Cpus: '0-1', Devices: [['8:0', 5n]] };
  expect(await told()).toEqual({ Name: 'name 1', ...figures });
  figures = { ...figures, Cpus: '0-15,17' };
  expect(await told()).toEqual({ Name: 'name 2', ...figures });
  figures = { ...figures, Devices: [['8:0', 6n]] };
  expect(await told()).toEqual({ Name: 'name 3', ...figures });
  figures = { ...figures, Devices: [] };
  expect(await told()).toEqual({ Name: 'name 4', ...figures });
  expect(await told()).toEqual({ Name: 'name 4', ...figures });
});

test('a figure that cannot be read is left out, and is there again later', async () => {
  figures = { Used: 1n, Devices: [] };
  expect(Object.keys(await told())).toEqual(['Name', 'Used', 'Devices']);
  figures = { Used: 1n, Cpus: '3', Devices: [] };
  expect(await told()).toMatchObject({ Cpus: '3' });
  figures = { Used: 1n, Devices: [] };
  expect(Object.keys(await told())).toEqual(['Name', 'Used', 'Devices']);
});
