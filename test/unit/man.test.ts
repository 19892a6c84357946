import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

import { checks } from '../../src/check/catalog.ts';
import { defaultLimits } from '../../src/core/user-quota.ts';
import { parseRequest } from '../../src/helper/request.ts';
import { settingsKeys } from '../../src/host/settings.ts';
import { storeKeys } from '../../src/host/store-settings.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
const pages = readdirSync(join(project, 'src/man'));

function read(file: string): string {
  return readFileSync(join(project, file), 'utf8');
}

/** Lines of one section of a manual page, without its heading. */
function section(page: string, heading: string): string[] {
  const lines = read(`src/man/${page}`).split('\n');
  const start = lines.indexOf(`.Sh ${heading}`);
  expect(start, `${page} has a section ${heading}`).toBeGreaterThanOrEqual(0);
  const length = lines.slice(start + 1).findIndex((line) => line.startsWith('.Sh '));
  return lines.slice(start + 1, start + 1 + length);
}

function describedKeys(heading: string): string[] {
  return section('lockerd.conf.5', heading)
    .map((line) => /^\.It Cm (\S+)$/.exec(line)?.[1])
    .filter((key) => key !== undefined);
}

function keysOf(scope: 'host' | 'container' | 'own'): string[] {
  return Object.keys(settingsKeys).filter((key) => settingsKeys[key]?.scope === scope);
}

describe('the keys of the settings', () => {
  test('lockerd.conf(5) describes those of stores, and no other', () => {
    expect(describedKeys('STORES').sort()).toEqual(Object.keys(storeKeys).sort());
  });

  test('lockerd.conf(5) describes those of a container, and no other', () => {
    expect(describedKeys('CONTAINER SETTINGS').sort()).toEqual(keysOf('container').sort());
  });

  test('lockerd.conf(5) describes those of the host, and no other', () => {
    expect(describedKeys('HOST SETTINGS').sort()).toEqual(keysOf('host').sort());
  });

  test('lockerd.conf(5) describes those that are about others, and no other', () => {
    expect(describedKeys('SETTINGS OF ONE CONTAINER').sort()).toEqual(keysOf('own').sort());
  });

  test('the packaged lockerd.conf shows each of them, commented out and acceptable', () => {
    const shown = read('src/debian/lockerd.conf')
      .split('\n')
      .filter((line) => /^[^#]|^#\S/.test(line))
      .map((line) => /^#(\S+) = (.+)$/.exec(line) ?? [line, line, '']);
    expect(shown.map(([, key]) => key).sort()).toEqual(Object.keys(settingsKeys).sort());
    for (const [line, key = '', value = ''] of shown) {
      expect(settingsKeys[key]?.accepts(value), line).toBe(true);
    }
  });

  test('the table in README.md has each of them', () => {
    const keys = [...read('README.md').matchAll(/^\| `([a-z-]+)` \|/gm)].map(([, key]) => key);
    expect(keys.sort()).toEqual(Object.keys(settingsKeys).sort());
  });
});

test('lockerctl-check(8) describes each check as the code has it, and no other', () => {
  const described = section('lockerctl-check.8', 'CHECKS')
    .join('\n')
    .split('.It Cm ')
    .slice(1)
    .map((item) => {
      const [head = '', ...text] = item.split(/\n(?:\.El[^]*)?/);
      const [id = '', severity] = head.split(' , ');
      return [id, { severity, why: text.join(' ').trim() }] as const;
    });
  expect(Object.fromEntries(described)).toEqual(checks);
});

/** The texts of all programs in TypeScript below a directory. */
function sources(...directories: string[]): string {
  return directories
    .flatMap((directory) => {
      const names = readdirSync(join(project, directory), { recursive: true, encoding: 'utf8' });
      return names.filter((name) => name.endsWith('.ts')).map((name) => `${directory}/${name}`);
    })
    .map(read)
    .join('\n');
}

test('every environment variable that a program reads is under ENVIRONMENT of a page', () => {
  const described = pages
    .filter((page) => read(`src/man/${page}`).includes('\n.Sh ENVIRONMENT\n'))
    .flatMap((page) => section(page, 'ENVIRONMENT'))
    .filter((line) => line.startsWith('.It Ev '))
    .flatMap((line) => line.slice('.It Ev '.length).split(' , '));
  const all = sources('src', 'generators');
  const used = [
    ...all.matchAll(/\b(?:env|environment)\['([A-Z_]+)'\]/g),
    ...all.matchAll(/^const \w*[vV]ariable = '([A-Z_]+)'/gm),
  ]
    .map(([, name = '']) => name)
    // The generator tells it to the process that reads for it.
    .filter((name) => name !== 'LOCKERD_GENERATOR_WATCHED');
  expect(new Set(used).size).toBeGreaterThan(6);
  expect(described).toEqual(expect.arrayContaining(used));
});

describe('lockerd-helper(8)', () => {
  const requests = section('lockerd-helper.8', 'DESCRIPTION')
    .map((line) => /^\.It Ic (\S+)(?: Ar (.*))?$/.exec(line))
    .filter((found) => found !== null)
    .map(([, verb = '', members = '']) => ({
      verb,
      optional: /Oo Ar (\S+) Oc/.exec(members)?.[1],
      members: members.split(' ').filter((word) => !['Oo', 'Oc', 'Ar', ''].includes(word)),
    }));
  const values: Readonly<Record<string, unknown>> = {
    container: 'web',
    locker: 'data',
    limits: { tasks: '500' },
    lockers: [],
    store: 'raid1',
    size: '1',
    owner: '0:0',
    mode: '0755',
    encrypt: 'no',
    creator: '0',
    snapshot: 'monday',
    name: 'other',
  };
  const parse = (verb: string, members: readonly string[]) => {
    const given = members.map((member) => {
      const isLimit = member === 'limit' || member === 'swap';
      const none = member === 'containers' ? [] : isLimit ? 'max' : false;
      return [member, values[member] ?? none] as const;
    });
    return parseRequest(Buffer.from(JSON.stringify({ verb, ...Object.fromEntries(given) })));
  };

  test('has every request with its members', () => {
    const types = /^const members[^]*?^};/m.exec(read('src/helper/request.ts'))?.[0] ?? '';
    const verbs = [...types.matchAll(/^ {2}'?([a-z-]+)'?: \{/gm)].map(([, verb]) => verb);
    expect(requests.map(({ verb }) => verb).sort()).toEqual(verbs.sort());
    for (const { verb, members, optional } of requests) {
      expect(() => parse(verb, members), verb).not.toThrow();
      expect(() => parse(verb, [...members, 'other']), verb).toThrow('does not know');
      for (const member of members) {
        const others = members.filter((one) => one !== member);
        if (member === optional) expect(() => parse(verb, others), verb).not.toThrow();
        else expect(() => parse(verb, others), verb).toThrow(`"${member}" is missing`);
      }
    }
  });

  test('has every error that it answers with', () => {
    const text = section('lockerd-helper.8', 'DESCRIPTION').join('\n');
    const [, list = ''] = /\.Ql error ,\none of\n([^]*?\.Ql Failed) \./.exec(text) ?? [];
    const described = [...list.matchAll(/^\.Ql (\w+)/gm)].map(([, code]) => code);
    const thrown = sources('src/helper', 'src/stores', 'src/balloon', 'src/systemd').matchAll(
      /new LockerdError\(\s*'(\w+)'/g,
    );
    expect(described.sort()).toEqual([...new Set([...thrown].map(([, code]) => code))].sort());
  });
});

test('lockerd(8) has the numbers of calls that a user may make', () => {
  const words: Readonly<Record<number, string>> = { 8: 'eight' };
  expect(section('lockerd.8', 'JOBS')).toContain(
    `A user may make ${defaultLimits['calls-per-second']} calls of any kind a second and ` +
      `${defaultLimits['calls-burst']} at once, root ${words[defaultLimits['root-factor']]} times as many.`,
  );
});

test('lockerd(8) has each field of the journal', () => {
  const described = section('lockerd.8', 'DIAGNOSTICS')
    .filter((line) => /^\.(?:It )?Ev /.test(line))
    .flatMap((line) => line.match(/LOCKERD_[A-Z_]+/g) ?? []);
  const files = ['core/audit-log.ts', 'adapters/journal.ts', 'autoballoon/shares.ts'];
  const fields = files
    .map((file) => read(`src/${file}`))
    .flatMap((text) => [...text.matchAll(/(?<=[{ ])([A-Z][A-Z_]+): /g)])
    .map(([, name = '']) => `LOCKERD_${name}`);
  expect(described.sort()).toEqual([...new Set(fields)].sort());
});

describe('installed files', () => {
  const documented = [
    'lockerctl.1',
    'lockerctl-check.8',
    'lockerctl-move.8',
    'lockerd.7',
    'lockerd-hooks.7',
    'lockerd.8',
    'lockerd-generator.8',
    'lockerd-helper.8',
    'lockerd-autoballoon.8',
  ]
    .flatMap((page) => section(page, 'FILES'))
    .filter((line) => line.startsWith('.It Pa /usr/'))
    .map((line) => line.slice('.It Pa '.length));

  function filesBelow(directory: string): string[] {
    const names = readdirSync(join(project, directory), { recursive: true, encoding: 'utf8' });
    return names.filter((name) => statSync(join(project, directory, name)).isFile());
  }

  function installedFrom(source: string, end: string, target: string): string[] {
    return filesBelow(source)
      .filter((name) => name.endsWith(end))
      .map((name) => `${target}/${name}`);
  }

  test('every one is named under FILES, and nothing that does not exist', () => {
    const installed = [
      '/usr/lib/systemd/system-generators/lockerd-generator',
      '/usr/lib/lockerd/lockerd',
      '/usr/lib/lockerd/lockerd-helper',
      '/usr/lib/lockerd/lockerd-lockers',
      '/usr/lib/lockerd/lockerd-autoballoon',
      '/usr/lib/lockerd/lockerd-move',
      '/usr/lib/lockerd/parts',
      ...filesBelow('units/system').map((name) => `/usr/lib/systemd/system/${name}`),
      ...filesBelow('units/sysusers').map((name) => `/usr/lib/sysusers.d/${name}`),
      ...installedFrom('units/catalog', '.catalog', '/usr/lib/systemd/catalog'),
      ...installedFrom('units/dbus', '.conf', '/usr/share/dbus-1/system.d'),
      ...installedFrom('units/dbus', '.service', '/usr/share/dbus-1/system-services'),
      ...installedFrom('units/dbus', '.xml', '/usr/share/dbus-1/interfaces'),
      ...installedFrom('units/polkit', '.policy', '/usr/share/polkit-1/actions'),
      ...installedFrom('units/polkit', '.rules', '/usr/share/polkit-1/rules.d'),
      '/usr/share/bash-completion/completions/lockerctl',
      '/usr/share/zsh/vendor-completions/_lockerctl',
      '/usr/share/fish/vendor_completions.d/lockerctl.fish',
      '/usr/share/doc/lockerd/examples',
      ...installedFrom('src/doc', '.svg', '/usr/share/doc/lockerd'),
      ...filesBelow('hooks').map((name) =>
        name.startsWith('mount.') ? `/usr/sbin/${name}` : `/usr/lib/lockerd/hooks/${name}`,
      ),
    ];
    expect(documented.sort()).toEqual(installed.sort());
  });

  test('what units and the catalog name as documentation are manual pages of ours', () => {
    let seen = 0;
    for (const file of filesBelow('units')) {
      const named = read(`units/${file}`).matchAll(/man:(\S*lockerd\S*)\((\d)\)/g);
      for (const [, name = '', number = ''] of named) {
        expect(pages, file).toContain(`${name}.${number}`);
        seen++;
      }
    }
    expect(seen).toBeGreaterThan(20);
  });
});

describe.each(pages)('%s', (page) => {
  test('mandoc finds no fault', () => {
    // mandoc that is missing makes this fail, on purpose.
    const args = ['-T', 'lint', '-W', 'warning', join(project, 'src/man', page)];
    let complaints: string;
    try {
      complaints = execFileSync('mandoc', args, { encoding: 'utf8' });
    } catch (error) {
      complaints = (error as { stdout?: string }).stdout ?? '';
      if (complaints === '') throw error;
    }
    expect(complaints).toBe('');
  });

  test('refers to manual pages by their own section', () => {
    const own = new Set(pages.map((name) => name.slice(0, -2)));
    for (const [, name = '', number] of read(`src/man/${page}`).matchAll(/^\.Xr (\S+) (\d)/gm)) {
      if (own.has(name)) expect(pages).toContain(`${name}.${number ?? ''}`);
    }
  });
});

describe('lockerd-migration(7)', () => {
  test.each(['LXC-AUTOSTART', 'INIT SCRIPTS', 'GANETI', 'PROXMOX', 'INCUS'])(
    'has for whoever comes from %s a table, what is different, and the way back',
    (before) => {
      const lines = section('lockerd-migration.7', `FROM ${before}`);
      const start = lines.findIndex((line) => /^BEFORE +NOW$/.test(line));
      const table = lines.slice(start + 1, lines.indexOf('.Ed', start)).join('\n');
      // What is too long for its column has its counterpart in the next line.
      const rows = table.replaceAll(/\n {10,}/g, '  ').split('\n');
      expect(rows.length).toBeGreaterThan(6);
      for (const row of rows) expect(row).toMatch(/^\S.* {2,}\S/);
      const titles = lines.flatMap((line) => /^\.Ss (.*)$/.exec(line)?.[1] ?? []);
      expect(titles).toEqual(['Different', 'Moving and going back']);
    },
  );
});
