import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { guestLook } from '../../src/adapters/guest-look.ts';
import type { Core } from '../../src/core/core.ts';
import { LockerdError } from '../../src/model/errors.ts';
import { guestAddresses } from '../../src/helper/guest-addresses.ts';
import { parseOsRelease } from '../../src/helper/os-release.ts';
import { FakeOutside, settled } from './core-fakes.ts';

const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 192.0.2.0/24 2 0 1
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.5
           /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.9.0.2
        /32 host LOCAL
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 169.254.7.7
        /32 host LOCAL
     |-- 192.0.2.5
        /32 host LOCAL
`;
const route = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
wide0\t000000C0\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
far0\t0000090A\t010200C0\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
`;
const inet6 = `00000000000000000000000000000001 01 80 10 80       lo
fe80000000000000021e67fffe0a1b2c 02 40 20 80     eth0
20010db8000000000000000000000005 02 40 00 80   e"th:0
`;

describe('addresses', () => {
  test('are told once, without the loopback, those for the own link last', () => {
    expect(guestAddresses(trie, route, inet6)).toEqual([
      { interface: 'eth0', address: '192.0.2.5' },
      // A route with a gateway says nothing about whose address it is.
      { interface: '', address: '10.9.0.2' },
      { interface: 'e"th:0', address: '2001:db8::5' },
      { interface: '', address: '169.254.7.7' },
      { interface: 'eth0', address: 'fe80::21e:67ff:fe0a:1b2c' },
    ]);
  });

  test('are those that this machine says it has', () => {
    const read = (name: string) => {
      try {
        return readFileSync(`/proc/self/net/${name}`, 'utf8');
      } catch {
        return '';
      }
    };
    const own = guestAddresses(read('fib_trie'), read('route'), read('if_inet6'));
    const expected = Object.entries(networkInterfaces()).flatMap(([name, list = []]) =>
      list.filter(({ internal }) => !internal).map(({ address }) => `${name} ${address}`),
    );
    const found = own.map(({ interface: name, address }) => `${name} ${address}`);
    expect(found.sort()).toEqual(expected.sort());
  });

  test('of anything at all are none, in the form of addresses', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (a, b, c) => {
        guestAddresses(a, b, c);
      }),
    );
    expect(guestAddresses('|-- 999999.1.1.1\n/32 host LOCAL', route, 'zz 02 40 00 80 x')).toEqual(
      [],
    );
  });
});

describe('os-release', () => {
  test('is read as a shell reads plain assignments', () => {
    const text = `# comment
NAME=Other
PRETTY_NAME="Debian \\"GNU\\"/Linux \\$12"\r
ID=debian
VERSION_ID='12'
ID_LIKE=nothing
`;
    expect(parseOsRelease(text)).toEqual({
      ...{ name: 'Debian "GNU"/Linux $12', id: 'debian', version: '12' },
    });
    expect(parseOsRelease('ID=a\nID=b\nVERSION_ID=\n')).toEqual({ id: 'b' });
    for (const value of ['$(id)', '`id`', '"open', "'a'b", 'a b', 'a;b']) {
      expect(parseOsRelease(`ID=${value}\n`), value).toEqual({});
    }
  });

  test('is harmless and short, whatever it is', () => {
    const evil = 'PRETTY_NAME="\u001b]0;x\u0007\u009b\u2028"\n';
    expect(parseOsRelease(evil)).toEqual({ name: '?]0;x???' });
    expect(parseOsRelease(`ID=${'x'.repeat(5000)}`).id).toHaveLength(200);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        for (const value of Object.values(parseOsRelease(`ID="${text}"\n${text}`)) as string[]) {
          expect(value).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
        }
      }),
    );
  });
});

test('what the helper says is taken member by member', () => {
  const addresses = [{ interface: 'eth0', address: '192.0.2.5' }];
  const whole = {
    ...{ addresses, hasMoreAddresses: false, sharesNetwork: false, hostName: 'web' },
    ...{ os: { name: 'Tiny', id: 'tiny', version: '1' }, isUnprivileged: true, startUsec: 7 },
    lowestLimit: '18446744073709551615',
  };
  expect(guestLook(whole)).toEqual({ ...whole, startUsec: 7n, lowestLimit: 2n ** 64n - 1n });
  const odd = {
    addresses: [{ address: 1 }, null, 7, ...addresses],
    hostName: 1,
    startUsec: -1,
    lowestLimit: '18446744073709551616',
    os: 7,
  };
  expect(guestLook(odd)).toEqual({ addresses, os: {} });
  for (const value of [null, 7, 'x', []]) expect(guestLook(value)).toEqual({ os: {} });
});

describe('looks of many callers', () => {
  let outside: FakeOutside;
  let core: Core;
  beforeEach(async () => {
    outside = new FakeOutside();
    core = outside.core();
    await core.start();
    outside.run('web', 100);
    outside.run('db', 200);
    await settled();
  });
  const asked = () => outside.done.filter((what) => what.startsWith('look'));

  test('are one look, of those that run, and good for a second', async () => {
    const first = core.looks.of(['web', 'nobody']);
    await settled();
    // While one is under way, all others wait for the next one together.
    const others = [core.looks.of(['web', 'db']), core.looks.of(['db'])];
    await settled();
    expect(asked()).toEqual(['look web']);
    outside.answer('look web', new Map([['web', { hostName: 'a' }]]));
    await settled();
    // What that has seen need not be looked at again.
    expect(asked()).toEqual(['look web', 'look db']);
    const both = new Map([
      ['web', { hostName: 'a' }],
      ['db', { hostName: 'c' }],
    ]);
    outside.answer('look db', new Map([['db', { hostName: 'c' }]]));
    expect(await first).toEqual(new Map([['web', { hostName: 'a' }]]));
    expect(await Promise.all(others)).toEqual([both, new Map([['db', { hostName: 'c' }]])]);
    expect(await core.looks.of(['db', 'web'])).toEqual(both);
    expect(asked()).toHaveLength(2);

    outside.stop('db');
    await settled();
    expect(await core.looks.of(['db'])).toEqual(new Map());
    // Another guest under the same name.
    outside.run('web', 101);
    await settled();
    void core.looks.of(['web']);
    await settled();
    expect(asked()).toHaveLength(3);
  });

  test('are looked again after a second, and after a failure', async () => {
    const failed = core.looks.of(['web']).catch((error: unknown) => error);
    await settled();
    outside.fail('look web', new LockerdError('Failed', 'away'));
    expect(await failed).toMatchObject({ message: 'away' });
    for (const turn of [2, 3]) {
      const look = core.looks.of(['web']);
      await settled();
      expect(asked()).toHaveLength(turn);
      outside.answer('look web', new Map([['web', {}]]));
      await look;
      await outside.clock.pass(1_001);
    }
  });
});
