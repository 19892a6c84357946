// org.lockerd1(5) and the comments of org.lockerd1.xml say what the code does, all of it and no more.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { errorNames, interfaces } from '../../src/api/names.ts';
import { readComment, readInterfaces, withInterfaces } from '../../src/build/dbus-manual.mjs';
import { busError } from '../../src/bus/values.ts';
import { parseArguments } from '../../src/cli/arguments.ts';
import {
  isLockerRequest,
  optionsOf,
  optionsOfCancel,
  type ContainerRequest,
  type LockerRequest,
  type Request,
} from '../../src/core/request.ts';
import type { Container, Locker } from '../../src/core/host-objects.ts';
import type { HostState } from '../../src/core/host-state.ts';
import type { Job, Verb } from '../../src/core/job-queue.ts';
import type { LockerLook, Store } from '../../src/core/locker-ports.ts';
import { lockerHealths } from '../../src/model/locker-words.ts';
import { planLocker, type LockerWorld } from '../../src/core/locker-plan.ts';
import { checkOption, parseOptions, type OptionName } from '../../src/core/options.ts';
import { jobDetails } from '../../src/core/permissions.ts';
import { actionIds } from '../../src/core/ports.ts';
import { emptyDetails, planRequest } from '../../src/core/request-plan.ts';
import { defaultLimits } from '../../src/core/user-quota.ts';
import type { LockerdError } from '../../src/model/errors.ts';
import { limitNames, limitRules, type LimitTexts } from '../../src/model/guest-limits.ts';
import { definition, unitStatus } from './core-fakes.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const read = (file: string) => readFileSync(`${project}${file}`, 'utf8');

const xml = read('units/dbus/org.lockerd1.xml');
const page = read('src/man/org.lockerd1.5');
const tables = readInterfaces(xml);
const members = tables.flatMap((table) =>
  table.members.map((member) => ({ ...member, of: table.name, said: readComment(member) })),
);

function member(of: keyof typeof interfaces, name: string) {
  const found = members.find((one) => one.of === interfaces[of] && one.name === name);
  if (found === undefined) throw new Error(`${of} has no ${name}`);
  return found;
}

const words = (text = '') => text.split(' ').filter((word) => word !== '');

/** What a comment lists as "- `word`: meaning". */
function listed(of: keyof typeof interfaces, name: string): string[] {
  const text = member(of, name).said.paragraphs.join('\n');
  return [...text.matchAll(/^- `([^`]+)`:/gm)].map(([, word = '']) => word);
}

/** The words of a type of strings, as its source has it. */
function wordsOfType(file: string, type: string): string[] {
  const text = new RegExp(`^export type ${type} =([^;]*);`, 'm').exec(read(file))?.[1] ?? '';
  return [...text.matchAll(/'([a-z-]+)'/g)].map(([, word = '']) => word);
}

/** Errors and actions between ".It Li" and ".Li" of a page. */
function named(text: string, prefix: RegExp): string[] {
  return [...text.matchAll(/^\.It Li (\S+)$/gm)]
    .map(([, name = '']) => name)
    .filter((name) => prefix.test(name));
}

test('the page is made from the comments; see src/build/dbus-manual.mjs', () => {
  expect(withInterfaces(page, xml)).toBe(page);
  const regions = [...page.matchAll(/^\.\\" From org\.lockerd1\.xml: (\S+)$/gm)];
  expect(regions.map(([, name]) => name)).toEqual(Object.values(interfaces));
});

test('every interface, member and argument is in the page', () => {
  expect(tables.map(({ name }) => name)).toEqual(Object.values(interfaces));
  for (const { kind, name, type, args } of members) {
    expect(page).toContain(
      kind === 'property' ? `\n.It Va ${name} Pq Vt ${type}` : `\n.It Fn ${name}\n`,
    );
    for (const arg of args) expect(page).toContain(`\n.It Ar ${arg.name}\n`);
  }
  const inPage = [...page.matchAll(/^\.It (?:Fn|Va) (\S+)/gm)].map(([, name]) => name);
  expect(inPage).toEqual(
    tables.flatMap((table) =>
      ['method', 'signal', 'property'].flatMap((kind) =>
        table.members.filter((one) => one.kind === kind).map(({ name }) => name),
      ),
    ),
  );
});

describe('a comment is refused', () => {
  const table = (comment: string) =>
    `<!--\n${comment}\n-->\n<method name="Do"><arg name="what" type="s" direction="in"/></method>`;
  const parsed = (comment: string) => {
    const [first] = readInterfaces(`<interface name="a.B">${table(comment)}</interface>`);
    if (first?.members[0] === undefined) throw new Error('no member');
    return readComment(first.members[0]);
  };

  test('that is complete, it is not', () => {
    expect(parsed('Do:\n@what: It.\n\nDoes it.\n\nErrors: Failed')).toEqual({
      args: { what: 'It.' },
      labels: { Errors: 'Failed' },
      paragraphs: ['Does it.'],
    });
  });

  test.each([
    ['of another member', 'Undo:\n@what: It.\n\nDoes it.', /no comment of its own/],
    ['without an argument', 'Do:\n\nDoes it.', /has to describe: what/],
    ['of one argument too many', 'Do:\n@what: It.\n@how: So.\n\nDoes it.', /has to describe/],
  ])('%s', (_, comment, message) => {
    expect(() => parsed(comment)).toThrow(message);
  });
});

test('the errors are those that the service sends, and no others', () => {
  const sent = new Set<string>(Object.values(errorNames));
  for (const [, key = ''] of read('src/bus/standard-interfaces.ts').matchAll(/busError\.(\w+)/g)) {
    sent.add(busError[key as keyof typeof busError]);
  }
  expect(named(page, /\.Error\./).sort()).toEqual([...sent].sort());
  const codes = [...sent].map((name) => name.split('.').at(-1));
  for (const { name, said } of members) {
    for (const error of words(said.labels['Errors'])) expect(codes, name).toContain(error);
  }
});

const methodOf: Readonly<Record<Verb, string>> = {
  start: 'StartContainer',
  stop: 'StopContainer',
  reboot: 'RebootContainer',
  freeze: 'FreezeContainer',
  thaw: 'ThawContainer',
  balloon: 'Balloon',
  'set-limits': 'SetLimits',
  'mount-locker': 'MountLocker',
  'unmount-locker': 'UnmountLocker',
  'set-autostart': 'SetAutostart',
  'create-locker': 'CreateLocker',
  'grow-locker': 'GrowLocker',
  'rename-locker': 'RenameLocker',
  'snapshot-locker': 'SnapshotLocker',
  'restore-locker': 'RestoreLocker',
  'forget-locker': 'ForgetLocker',
  'adopt-locker': 'AdoptLocker',
};
const verbs = Object.keys(methodOf) as Verb[];
const states = listed('container', 'State') as Container['state'][];

function container(change: Partial<Container> = {}): Container {
  return {
    name: 'web',
    definition: definition('web'),
    unit: unitStatus(),
    state: 'running',
    stateChangeUsec: 0n,
    leader: 1,
    attachments: [],
    oomKills: 0n,
    obstacle: '',
    waitsFor: [],
    isOutsideUnit: false,
    isGone: false,
    ...change,
  };
}

function hostWith(one: Container | undefined, lockers: readonly string[]): HostState {
  return {
    container: () => one,
    locker: (name: string) => (lockers.includes(name) ? ({ name } as Locker) : undefined),
  } as unknown as HostState;
}

const everyLimit: LimitTexts = Object.fromEntries(limitNames.map((name) => [name, 'max']));

function requestOf(verb: Verb): Request {
  if (verb === 'balloon') return { verb, container: 'web', limit: 2n ** 30n };
  if (verb === 'set-limits') {
    return { verb, container: 'web', limits: everyLimit };
  }
  if (verb === 'mount-locker' || verb === 'unmount-locker') {
    return { verb, container: 'web', locker: 'data' };
  }
  if (verb === 'set-autostart') return { verb, container: 'web', autostart: true };
  if (verb === 'create-locker') return { verb, locker: 'new', size: 2n ** 30n };
  if (verb === 'grow-locker') return { verb, locker: 'data', size: 2n ** 30n };
  if (verb === 'rename-locker') return { verb, locker: 'data', name: 'new' };
  if (verb === 'snapshot-locker') return { verb, locker: 'data', snapshot: 'a' };
  if (verb === 'restore-locker') return { verb, locker: 'data', snapshot: 'a', name: 'new' };
  if (verb === 'forget-locker') return { verb, locker: 'data' };
  if (verb === 'adopt-locker') return { verb, locker: 'new' };
  return { verb, container: 'web' };
}

/** Every option that the verb has. */
function allOptions(verb: Verb) {
  const has = (name: OptionName) => optionsOf[verb].includes(name);
  const swap = has('swap') ? 2n ** 29n : undefined;
  return { force: has('force'), persist: has('persist'), readOnly: has('read-only'), swap };
}

const fast: Store = {
  ...{ name: 'fast', type: 'lvm', fileSystem: 'ext4', size: 1n, free: 1n, maxSize: 2n ** 31n },
  ...{ isDefault: true, problem: '', forgotten: [{ name: 'new', size: 2n ** 30n, creator: 0 }] },
};

/** What is known of the lockers that there are, and of the caller's. */
function worldOf(names: readonly string[], look: LockerLook, attachedTo: string[]): LockerWorld {
  const lockers = new Map(
    names.map((name) => [
      name,
      { name, attachedTo: attachedTo.map((one) => ({ container: one, readOnly: false })) },
    ]),
  );
  return {
    host: {
      container: (name: string) => (name === 'web' ? container() : undefined),
      locker: (name: string) => lockers.get(name),
    },
    looks: { of: () => look },
    use: { of: () => ({ lockers: 1, size: 1n, unknown: undefined }) },
  } as unknown as LockerWorld;
}

/** Every plan of a verb about lockers, in every state of what it depends on. */
function* lockerPlans(request: LockerRequest) {
  const look = { health: 'good', creator: 7, store: 'fast', snapshots: ['b'] } as const;
  for (const names of [[], ['data'], ['data', 'new']]) {
    for (const size of [undefined, 2n ** 29n, 2n ** 40n]) {
      for (const snapshots of [[], ['a']]) {
        for (const attachedTo of [[], ['web']]) {
          for (const stores of [[], [fast], [{ ...fast, problem: 'broken' }]]) {
            for (const isFull of [false, true]) {
              const seen = { ...look, snapshots, ...(size === undefined ? {} : { size }) };
              const bag = new Map(
                Object.entries(
                  isFull
                    ? { container: ['s', 'web'], encrypt: ['s', 'key-file'], freeze: ['b', true] }
                    : {},
                ).map(([key, [signature, value]]) => [
                  key,
                  { signature: String(signature), value },
                ]),
              );
              const options = parseOptions(bag, ['container', 'encrypt', 'freeze']);
              const facts = { stores, trouble: undefined, snapshot: 'x' };
              const world = worldOf(names, seen, attachedTo);
              yield () => planLocker(world, 7, request, options, facts);
            }
          }
        }
      }
    }
  }
}

const noOptions = { force: false, persist: false, readOnly: false, swap: undefined };

const isAboutContainer = (request: Request): request is ContainerRequest =>
  !isLockerRequest(request);

describe.each(verbs.map(requestOf).filter(isAboutContainer))('$verb', (request) => {
  const { verb } = request;
  const { said } = member('manager', methodOf[verb]);

  test('has the action and the details of the comment', () => {
    const host = hostWith(container({ attachments: [] }), ['data']);
    const plain = planRequest(host, request, noOptions);
    const full = planRequest(host, request, allOptions(verb));
    const actions = [...(said.labels['Action'] ?? '').matchAll(/org\.[a-z0-9.-]+/g)].map(String);
    expect(actions).toEqual([...new Set([plain.action, full.action])]);
    const meant = Object.entries(full.details).filter(
      ([, value]) => value !== '' && value !== 'false',
    );
    expect(words(said.labels['Details']).sort()).toEqual(meant.map(([key]) => key).sort());
  });

  test('is refused with errors of the comment only, in every state', () => {
    const found = new Set<string>();
    const lockers = [{ locker: 'data', readOnly: false }];
    for (const state of states) {
      for (const attachments of [[], lockers]) {
        for (const isOutsideUnit of [false, true]) {
          for (const options of [noOptions, allOptions(verb)]) {
            const host = hostWith(container({ state, attachments, isOutsideUnit }), ['data']);
            const { objection } = planRequest(host, request, options);
            if (objection) found.add(objection.code);
          }
        }
      }
    }
    for (const host of [hostWith(undefined, []), hostWith(container(), [])]) {
      try {
        planRequest(host, request, noOptions);
      } catch (error) {
        found.add((error as LockerdError).code);
      }
    }
    // Whether it runs or not, the next boot can be decided about.
    expect(found.size).toBeGreaterThan(verb === 'set-autostart' ? 0 : 1);
    expect(words(said.labels['Errors'])).toEqual(expect.arrayContaining([...found]));
  });
});

describe.each(verbs.map(requestOf).filter(isLockerRequest))('$verb', (request) => {
  const { said } = member('manager', methodOf[request.verb]);
  const outcomes = [...lockerPlans(request)].map((plan) => {
    try {
      return plan();
    } catch (error) {
      return error as LockerdError;
    }
  });
  const plans = outcomes.flatMap((one) => ('action' in one ? [one] : []));

  test('has the action and the details of the comment', () => {
    expect([...new Set(plans.map(({ action }) => action))]).toEqual([said.labels['Action']]);
    const meant = plans.flatMap(({ details }) =>
      Object.entries(details).flatMap(([key, value]) => {
        return value === '' || (value === 'false' && !['own', 'freeze'].includes(key)) ? [] : [key];
      }),
    );
    expect(words(said.labels['Details']).sort()).toEqual([...new Set(meant)].sort());
  });

  test('is refused with errors of the comment only, in every state', () => {
    const codes = outcomes.flatMap((one) =>
      'action' in one ? (one.objection ? [one.objection.code] : []) : [one.code],
    );
    const found = [...new Set(codes)];
    expect(found.length).toBeGreaterThan(1);
    expect(words(said.labels['Errors'])).toEqual(expect.arrayContaining(found));
  });
});

describe.each(verbs)('%s', (verb) => {
  const { said } = member('manager', methodOf[verb]);

  test('has the options of the comment', () => {
    /** Those that a text names, and those that it has in common with another method. */
    const optionsIn = (text: string): string[] =>
      [...text.matchAll(/`([^`]+)`/g)].flatMap(([, word = '']) =>
        /^[A-Z]/.test(word)
          ? optionsIn(member('manager', word).said.args['options'] ?? '')
          : [word],
      );
    const named = optionsIn(said.args['options'] ?? '');
    expect(named.sort()).toEqual([...optionsOf[verb]].sort());
  });
});

test('Cancel has the details and options of its comment', () => {
  const { said } = member('job', 'Cancel');
  const job = { id: 1, verb: 'mount-locker', container: 'web', locker: 'data', uid: 7 } as Job;
  const meant = Object.entries(jobDetails(hostWith(container(), []), job)).filter(
    ([, value]) => value !== '' && value !== 'false',
  );
  expect(words(said.labels['Details']).sort()).toEqual(meant.map(([key]) => key).sort());
  for (const option of optionsOfCancel) expect(said.args['options']).toContain(`\`${option}\``);
});

test('the actions are those of the service and of the policy, in both pages', () => {
  const policy = [...read('units/polkit/org.lockerd1.policy').matchAll(/<action id="([^"]+)"/g)];
  expect(policy.map(([, id]) => id).sort()).toEqual([...actionIds].sort());
  const asked = members.flatMap(({ said }) =>
    [...(said.labels['Action'] ?? '').matchAll(/org\.[a-z0-9.-]+/g)].map(String),
  );
  expect([...new Set(asked)].sort()).toEqual([...actionIds].sort());
  for (const action of actionIds) expect(page).toMatch(new RegExp(`^\\.Li ${action} [.,]$`, 'm'));
  expect(named(read('src/man/lockerd.8'), /^org\.lockerd1\./).sort()).toEqual(
    [...actionIds].sort(),
  );
});

/** Terms between two headings of a page. */
function terms(file: string, from: string, to: string): string[] {
  const text = read(file);
  const part = text.slice(text.indexOf(`.Sh ${from}\n`), text.indexOf(`.Sh ${to}\n`));
  return [...part.matchAll(/^\.It Cm (\S+)/gm)].map(([, word = '']) => word);
}

test('lockerd(8) has each detail', () => {
  expect(terms('src/man/lockerd.8', 'DETAILS', 'JOBS').sort()).toEqual(
    Object.keys(emptyDetails).sort(),
  );
});

test('the section OPTIONS has each option with its type', () => {
  const known = new Set([...verbs.flatMap((verb) => optionsOf[verb]), ...optionsOfCancel]);
  expect(terms('src/man/org.lockerd1.5', 'OPTIONS', 'LIMITS').sort()).toEqual([...known].sort());
  const options = page.slice(0, page.indexOf('\n.Sh LIMITS\n'));
  for (const [, name = '', type = ''] of options.matchAll(/^\.It Cm (\S+) Pq Vt (\S+)$/gm)) {
    expect(() => {
      checkOption(name, type, [...known]);
    }).not.toThrow();
  }
});

test('lists of words are complete', () => {
  const parse = (option: string) => parseArguments(['list', option], { outputIsTerminal: false });
  expect(() => parse('--state=tired')).toThrow(states.join(', '));
  for (const state of states) parse(`--state=${state}`);
  expect(listed('manager', 'Limits')).toEqual(Object.keys(defaultLimits));
  expect(listed('job', 'Verb')).toEqual(verbs);
  const queue = 'src/core/job-queue.ts';
  expect(listed('job', 'State')).toEqual(wordsOfType(queue, 'JobState'));
  expect(listed('job', 'Result')).toEqual(wordsOfType(queue, 'JobResult'));
  const reasons = wordsOfType('src/host/boot-policy.ts', 'BootReason');
  // A word may say yes as well as no.
  expect([...new Set(listed('container', 'AutostartReasons'))]).toEqual(reasons);
  const decisions = wordsOfType('src/core/ports.ts', 'Decision');
  expect([...listed('manager', 'GetPermissions'), 'dismissed'].sort()).toEqual(decisions.sort());
  const phases = [
    ...['src/core/job-actions.ts', 'src/core/lockers.ts'].flatMap((file) =>
      [...read(file).matchAll(/report\('([a-z]+)'/g)].map(String),
    ),
    ...[...read(queue).matchAll(/phase(?: =|:) '([a-z]+)'/g)].map(String),
  ].map((text) => /'([a-z]+)'/.exec(text)?.[1]);
  const all = new Set([
    ...phases,
    ...wordsOfType('src/balloon/shrink.ts', 'Phase'),
    ...wordsOfType('src/core/locker-ports.ts', 'LockerPhase'),
  ]);
  expect(listed('locker', 'Health')).toEqual([...lockerHealths]);
  expect(listed('job', 'Phase').sort()).toEqual([...all].sort());
});

test('every limit is in the page, with its type, and no other', () => {
  const [, section = ''] = /^\.Sh LIMITS\n([^]*?)^\.Sh /m.exec(page) ?? [];
  const inPage = [...section.matchAll(/^\.It Cm (\S+) Pq Vt (\S+)$/gm)].map(
    ([, ...words]) => words,
  );
  expect(inPage).toEqual(limitNames.map((name) => [name, limitRules[name].signature]));
});
