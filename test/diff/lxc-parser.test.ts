import { execFileSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';

import { parseLxcConfig } from '../../src/host/parse-lxc.ts';
import { createLxcReader } from '../../src/host/read-lxc.ts';
import { formatProblem } from '../../src/model/problem.ts';
import { askLxc, printLikeLxc, withUnsetTypes } from './lxc-info.ts';

const dir = mkdtempSync(join(tmpdir(), 'lxc-parser-'));

afterAll(() => {
  rmSync(dir, { recursive: true, force: true });
});

/** Reads a file with our parser and with LXC's and demands the same; says what LXC said. */
async function compare(path: string): Promise<'accepted' | 'refused'> {
  const config = parseLxcConfig(createLxcReader('').read(path));
  const answer = await askLxc(
    path,
    config.nets.map((net) => net.index),
  );
  const ours = config.problems.length > 0 ? config.problems.map(formatProblem) : 'accepted';
  if (typeof answer === 'string') {
    expect(answer).toBe('refused');
    expect(ours).not.toBe('accepted');
    return 'refused';
  }
  expect(ours).toBe('accepted');
  expect(printLikeLxc(config)).toBe(withUnsetTypes(answer.stdout, config));
  return 'accepted';
}

describe.concurrent('a configuration that the distribution ships', () => {
  const shipped = execFileSync('dpkg', ['-L', 'lxc', 'liblxc-common'], { encoding: 'utf8' })
    .split('\n')
    .filter((path) =>
      /^\/etc\/lxc\/default\.conf$|^\/usr\/share\/lxc\/config\/|^\/usr\/share\/doc\/lxc\/examples\/.*\.conf$/.test(
        path,
      ),
    )
    .filter((path) => statSync(path).isFile());

  test('is there', () => {
    expect(shipped).toContain('/usr/share/lxc/config/common.conf');
    expect(shipped.length).toBeGreaterThan(5);
  });

  test.each(shipped)('%s', async (path) => {
    await compare(path);
  });
});

/** Where we part from LXC on purpose, and what LXC does instead. */
const deviations: Record<string, { why: string; lxc: 'accepts' | 'crashes'; problem: string }> = {
  'deviates-control': {
    why: 'a file with such bytes is damaged or no configuration at all, which LXC does not notice',
    lxc: 'accepts',
    problem: 'is not a text file: it has the control byte 0x01',
  },
  'deviates-latin1': {
    why: 'the value goes into unit files, and systemd refuses what is not UTF-8',
    lxc: 'accepts',
    problem: 'the value of lxc.uts.name is not UTF-8',
  },
  'deviates-large': {
    why: 'every daemon-reload reads the file; no configuration needs a megabyte',
    lxc: 'accepts',
    problem: 'it is larger than 1 MiB',
  },
  'deviates-deep': {
    why: 'a limit keeps a chain of links and directories from eating the stack',
    lxc: 'accepts',
    problem: 'files include each other more than 32 deep',
  },
  'deviates-loop': {
    why: 'LXC does not survive a file that includes itself, so we name the loop',
    lxc: 'crashes',
    problem: 'files include each other: ',
  },
};

/** Values we keep differently although both accept the file. */
const otherValues: Record<string, { why: string; lxc: string; ours: string }> = {
  'deviates-pattern': {
    why: 'LXC looks at the interfaces of the moment; a name to wait for is not in the file',
    lxc: 'lxc.net.0.link = lo\n',
    ours: 'lxc.net.0.link =\n',
  },
  'deviates-signal-999': {
    why: 'there is no such signal, and systemd refuses the unit; it is a warning and left out',
    lxc: 'lxc.signal.halt = 999\n',
    ours: 'lxc.signal.halt = 0\n',
  },
  'deviates-cut-char': {
    why: 'LXC cuts a link after 15 bytes, through the middle of a character',
    lxc: 'lxc.net.0.link = abcdefghijklmn\uFFFD\n',
    ours: 'lxc.net.0.link = abcdefghijklmn\n',
  },
};

describe.concurrent('a configuration written by hand', () => {
  const home = join(import.meta.dirname, 'configs');
  const work = join(dir, 'configs');
  cpSync(home, work, { recursive: true });
  for (const name of readdirSync(home, { recursive: true, encoding: 'utf8' })) {
    const path = join(work, name);
    if (!statSync(path).isFile()) continue;
    const bytes = readFileSync(path, 'latin1');
    if (bytes.includes('@DIR@')) writeFileSync(path, bytes.replaceAll('@DIR@', work), 'latin1');
  }
  writeFileSync(join(work, 'deviates-large'), `lxc.uts.name = a\n#${'x'.repeat(1 << 20)}\n`);
  for (let i = 0; i < 40; i++) {
    const name = i === 0 ? 'deviates-deep' : `deep-${i}`;
    writeFileSync(join(work, name), i < 39 ? `lxc.include = ${work}/deep-${i + 1}\n` : '');
  }
  const names = readdirSync(home).filter((name) => statSync(join(home, name)).isFile());
  const same = names.filter((name) => !name.startsWith('deviates-') && name !== '.gitattributes');

  test('there are enough of them', () => {
    expect(same.length).toBeGreaterThan(40);
    const known = [...Object.keys(deviations), ...Object.keys(otherValues)];
    expect(known).toEqual(
      expect.arrayContaining(names.filter((name) => name.startsWith('deviates-'))),
    );
  });

  test.each(same)('%s', async (name) => {
    await compare(join(work, name));
  });

  test.each(Object.entries(deviations))('%s is refused on purpose', async (name, expected) => {
    const path = join(work, name);
    const problems = parseLxcConfig(createLxcReader('').read(path)).problems;
    expect(problems.map((problem) => problem.reason)).toEqual([
      expect.stringContaining(expected.problem),
    ]);
    const answer = await askLxc(path, []);
    if (expected.lxc === 'crashes') expect(answer).toBe('crashed');
    else expect(typeof answer).toBe('object');
  });

  test.each(Object.entries(otherValues))('%s has another value', async (name, { lxc, ours }) => {
    const path = join(work, name);
    const config = parseLxcConfig(createLxcReader('').read(path));
    expect(config.problems).toEqual([]);
    const answer = await askLxc(path, [0]);
    if (typeof answer === 'string') throw new Error(`LXC ${answer} it`);
    expect(answer.stdout).toContain(lxc);
    expect(printLikeLxc(config)).toBe(withUnsetTypes(answer.stdout.replace(lxc, ours), config));
  });
});

/** So many lines are right for each that may be wrong: enough files must stay that LXC accepts. */
const RIGHT_LINES = 40;

const word = fc.stringMatching(/^[a-z0-9/:._=#'"+-]{1,12}$/);
const phrase = fc.oneof(
  word,
  fc.array(word, { minLength: 1, maxLength: 4 }).map((words) => words.join(' ')),
  fc.constantFrom(
    '',
    ' ',
    'a\tb',
    '\u00e4\u20ac\u{1F600}',
    'a # b',
    'x'.repeat(300),
    '\\',
    'a\vb\f',
  ),
);
const number = fc.oneof(
  fc.integer({ min: -20, max: 100 }).map(String),
  fc.constantFrom('0x1F', '017', '+3', '-0', '', '0', '1', '2147483647', '-2147483648', '00'),
);
const badNumber = fc.oneof(
  fc.constantFrom('08', '0x', '1 2', '1x', '--1', 'yes', '4294967296', '-2147483649', '1e3', '.'),
  word,
);
const signal = fc.oneof(
  fc.integer({ min: 0, max: 64 }).map(String),
  fc
    .constantFrom('HUP', 'INT', 'IOT', 'PWR', 'TERM', 'CLD', 'POLL', 'IO', 'SYS', 'STKFLT', 'URG')
    .chain((name) => fc.constantFrom(`SIG${name}`, `sig${name.toLowerCase()}`, `Sig${name}`)),
  fc.integer({ min: 0, max: 30 }).chain((n) => fc.constantFrom(`SIGRTMIN+${n}`, `sigRTmax-${n}`)),
);
const badSignal = fc.oneof(
  fc.constantFrom('PWR', 'SIG', 'SIGRTMIN', 'SIGRTMIN+31', 'SIGRTMIN-1', 'SIGEMT', '-9', '9 9'),
  word,
);
const path = fc
  .array(fc.constantFrom('a', 'b c', '.', '..', '', 'x.y', '\u00fc'), { maxLength: 6 })
  .chain((parts) =>
    fc
      .constantFrom('/', '', './', 'dir:/', 'overlay:', ':')
      .map((start) => start + parts.join('/')),
  );
const index = fc.constantFrom('0', '1', '2', '3', '8', '010', '00', '1');

function lines(keys: fc.Arbitrary<string>, values: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const blank = fc.constantFrom('', ' ', '\t', '  ');
  const quoted = fc
    .tuple(fc.constantFrom('', '', '', '"', "'"), values)
    .map(([quote, value]) => quote + value + quote);
  return fc
    .tuple(blank, keys, blank, blank, quoted, blank)
    .map(([a, key, b, c, value, d]) => `${a}${key}${b}=${c}${value}${d}`);
}

const only = (key: string): fc.Arbitrary<string> => fc.constant(key);
const netKey = (sub: string): fc.Arbitrary<string> => index.map((i) => `lxc.net.${i}.${sub}`);

function configText(includes: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const good: fc.Arbitrary<string>[] = [
    lines(only('lxc.rootfs.path'), path),
    lines(only('lxc.init.cmd'), phrase),
    lines(only('lxc.uts.name'), word),
    lines(only('lxc.signal.halt'), fc.oneof(signal, fc.constant(''))),
    lines(only('lxc.start.auto'), fc.constantFrom('0', '1', '', '+1', '0x0', '01')),
    lines(only('lxc.start.order'), number),
    lines(only('lxc.start.delay'), fc.nat().map(String)),
    lines(only('lxc.group'), phrase),
    lines(only('lxc.mount.entry'), phrase),
    lines(
      only('lxc.mount.fstab'),
      path.filter((value) => value !== ''),
    ),
    lines(netKey('type'), fc.constantFrom('veth', 'macvlan', 'ipvlan', 'vlan', 'phys', 'empty')),
    lines(netKey('link'), fc.stringMatching(/^[a-z0-9.-]{1,20}$/)),
    lines(netKey('flags'), fc.constant('up')),
    lines(
      index.map((i) => `lxc.net.${i}`),
      fc.constant(''),
    ),
    lines(
      fc.constantFrom(
        'lxc.cgroup2.memory.max',
        'lxc.sysctl.net.x',
        'lxc.hook.start',
        'lxc.tty.dir',
      ),
      word,
    ),
    lines(fc.constantFrom('lxc.net', 'lxc.hook', 'lxc.cgroup2', 'lxc.sysctl'), fc.constant('')),
    lines(only('lxc.include'), includes),
    fc.constantFrom('', ' \t', '# lxc.oops', ' #', 'lxc', 'foo = bar', '\f', 'LXC.a', '\u00e4'),
  ];
  const bad: fc.Arbitrary<string>[] = [
    lines(fc.constantFrom('lxc.start.auto', 'lxc.start.order', 'lxc.start.delay'), badNumber),
    lines(only('lxc.signal.halt'), badSignal),
    lines(
      only('lxc.uts.name'),
      fc.constantFrom('x'.repeat(64), 'x'.repeat(65), '\u00e4'.repeat(33)),
    ),
    lines(only('lxc.mount.fstab'), fc.constant('')),
    lines(netKey('type'), word),
    lines(fc.oneof(netKey('link'), netKey('type'), netKey('mtu')), fc.constant('')),
    lines(netKey('foo'), word),
    lines(
      index.map((i) => `lxc.net.${i}`),
      word,
    ),
    lines(
      word.map((key) => `lxc.${key}`),
      fc.constant(''),
    ),
    lines(fc.constantFrom('lxc.utsname', 'lxc.network.type', 'lxc.rootfs', 'lxc.tty'), word),
    lines(only('lxc.include'), fc.constantFrom('@DIR@/none', '@DIR@/none/', '@DIR@/a/', 'none')),
    fc.constantFrom('lxc.', 'lxc.uts.name web', '\tlxc.group'),
  ];
  const line = fc.oneof(
    { weight: RIGHT_LINES, arbitrary: fc.oneof(...good) },
    { weight: 1, arbitrary: fc.oneof(...bad) },
  );
  const end = fc.oneof(
    { weight: 20, arbitrary: fc.constant('\n') },
    { weight: 3, arbitrary: fc.constantFrom('\r\n', '\r', '\n\n', '\n\r') },
  );
  return fc
    .tuple(
      fc.array(fc.tuple(line, end), { maxLength: 30, size: 'max' }),
      fc.oneof(
        { weight: 9, arbitrary: fc.constant('') },
        { weight: 1, arbitrary: fc.constant('\0') },
      ),
      fc.oneof(line, fc.constant('')),
    )
    .map(([all, nul, last]) => all.map(([text, stop]) => text + stop).join('') + nul + last);
}

const leaf = configText(fc.constant(''));
const middle = configText(fc.constantFrom('', '@DIR@/b', '@DIR@/d'));
const top = configText(fc.constantFrom('@DIR@/a', '@DIR@/b', '@DIR@/d', '@DIR@/d/', '.@DIR@/b'));

describe.concurrent('a generated configuration', () => {
  const runs = 250;

  test.each([1, 2, 3])(
    'means the same to us and to LXC (series %d)',
    { timeout: 120_000 },
    async (series) => {
      const seen = { accepted: 0, refused: 0 };
      let count = 0;
      await fc.assert(
        fc.asyncProperty(top, middle, leaf, leaf, leaf, async (config, a, b, c, d) => {
          const at = join(dir, `series-${series}-${count++}`);
          mkdirSync(join(at, 'd'), { recursive: true });
          const files = { config, a, b, 'd/c.conf': c, 'd/d.conf': d };
          for (const [name, text] of Object.entries(files)) {
            writeFileSync(join(at, name), text.replaceAll('@DIR@', at));
          }
          seen[await compare(join(at, 'config'))]++;
          rmSync(at, { recursive: true });
        }),
        { numRuns: runs, seed: Number(fc.readConfigureGlobal().seed) + series },
      );
      // A generator that only made one kind would prove little.
      expect(seen.accepted).toBeGreaterThan(runs / 5);
      expect(seen.refused).toBeGreaterThan(runs / 5);
    },
  );
});
