import { expect, test } from 'vitest';
import { parseBootPolicy } from '../../src/host/boot-policy.ts';
import { parseSettings } from '../../src/host/settings.ts';
import type { Container, HostFacts } from '../../src/generator/container.ts';
import { Decisions, withoutDefect } from '../../src/generator/decisions.ts';
import { refusedFacts } from '../../src/generator/refused.ts';
import type { GatheredFacts } from '../../src/generator/refused.ts';

const { host: settings, defaults } = parseSettings([]);
const host: HostFacts = {
  fstab: [],
  boot: parseBootPolicy('', '/etc/default/lxc').policy,
  settings,
  lockers: new Map(),
  lxcpath: { path: '/var/lib/lxc', real: '/var/lib/lxc' },
};

function sound(name: string): GatheredFacts {
  const directory = `/var/lib/lxc/${name}`;
  const found = { name, directory, configFile: `${directory}/config` };
  const problem = { file: found.configFile, line: 0, reason: 'none' };
  return { ...refusedFacts(found, defaults, problem), problems: [] };
}

test('a container that no decision can be made about is refused, and no other one', () => {
  const decisions = new Decisions();
  decisions.add(sound('good'), host, defaults);
  const bad = sound('bad');
  const config = Object.defineProperty({ ...bad.config }, 'mountEntries', {
    get: () => {
      throw new RangeError('too deep');
    },
  });
  decisions.add({ ...bad, config, uncertainPaths: ['/gone'] }, host, defaults);
  const { containers } = decisions.model();
  expect(containers.map(({ name, problems }) => [name, problems[0]?.reason])).toEqual([
    ['bad', 'the generator failed on it: too deep'],
    ['good', undefined],
  ]);
  expect(decisions.uncertain).toEqual([]);
});

test('a container that nothing can be made of is made anew as one that refuses to start', () => {
  const decisions = new Decisions();
  decisions.add(sound('bad'), host, defaults);
  const [decided] = decisions.model().containers;
  if (decided === undefined) throw new Error('no container');
  const made: Container[] = [];
  const c = { ...decided, startsAfter: ['lxc@first.service'] };
  const result = withoutDefect(c, defaults, host, (container) => {
    if (container.problems.length === 0) throw new RangeError('too deep');
    made.push(container);
  });
  expect(made).toEqual([result]);
  expect(result.problems[0]?.reason).toBe('the generator failed on it: too deep');
  expect(result.startsAfter).toEqual(['lxc@first.service']);
  expect(withoutDefect(c, defaults, host, () => undefined)).toBe(c);
});
