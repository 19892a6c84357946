import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { viteHandlebars } from './src/build/handlebars.mjs';
import { nextRelease } from './test/vm/image.mjs';

const seed = ['test/seed.ts'];

/** Two virtual machines at once take the emulation too long for each run. */
const withTwoVms = 'test/vm/move-volumes.test.ts';

/** Hosts share the machine's swap, with which others of their tests would end differently. */
const withSwap = 'test/host/swap.test.ts';

/**
 * What systemd's own tools see of containers differs from release to release. Limits are set on Debian 13 by
 * vm/limits: its systemd has little left of cgroup v1.
 */
const onBothReleases = [
  'autostart',
  'companions',
  'describe',
  'guest-systemd',
  'machines',
  'service',
].map((name) => `test/host/${name}.test.ts`);

const shared = {
  plugins: [viteHandlebars],
  define: { LOCKERD_VERSION: '"test"' },
};

/** The tests of the bus, on one of the two message buses that Debian has. */
const busTests = (name: string, daemon: 'dbus-daemon' | 'dbus-broker') => ({
  name,
  include: ['test/bus/**/*.test.ts'],
  env: { LOCKERD_TEST_BUS: daemon },
  testTimeout: 120_000,
  hookTimeout: 60_000,
});

/** The files that take longest, as `npm test` shows them: begun last, one of them ends alone. */
const longest = [
  'package/readme',
  'package/upgrade',
  'vm/lockers',
  'vm/apparmor',
  'vm/balloon',
  'vm/stores',
  'vm/encrypted',
  'vm/vm',
  'vm/crypt',
  'vm/control-groups',
  'vm/autoballoon',
  'attack/bus',
  'host/late',
  'host/partitions',
  'host/move',
  'host/stores',
  'host/cluster',
  'host/boot',
  'host/attach',
  'host/hooks',
  'host/stop',
  'host/lifecycle',
  'host/service',
  'host/lockers-edge',
  'host/service-balloon',
  'host/adapters',
  'web/container',
  'web/containers',
  'web/lockers',
  'web/keyboard',
  'bus/lockerctl',
  'golden/compiled',
  'golden/verify',
  'bus/idle',
  'bus/polkit',
  'bus/fuzz',
  'golden/generator',
  'unit/patterns',
].map((name) => `/test/${name}.test.ts`);

/** The longest files first; the others in the order of the projects, whose files share modules. */
class LongestFirst extends BaseSequencer {
  override sort(specifications: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => {
      const at = longest.findIndex((name) => moduleId.endsWith(name));
      return at < 0 ? longest.length : at;
    };
    return Promise.resolve([...specifications].sort((a, b) => rank(a) - rank(b)));
  }
}

/** A tier each; test/run.mjs runs them in this order, several of them in one run. */
export default defineConfig({
  test: {
    // By default vitest leaves one processor alone.
    maxWorkers: availableParallelism(),
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        ...shared,
        // Properties run hundreds of cases, on a machine that may be busy.
        test: {
          name: 'unit',
          // Files share their modules: loading them anew for each file takes a third of the time. So a
          // test restores what it changes of the process.
          isolate: false,
          include: ['test/unit/**/*.test.ts'],
          setupFiles: seed,
          testTimeout: 60_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'golden',
          include: ['test/golden/**/*.test.ts'],
          setupFiles: seed,
          testTimeout: 120_000,
        },
      },
      {
        ...shared,
        test: {
          name: 'diff',
          include: ['test/diff/**/*.test.ts'],
          setupFiles: seed,
          testTimeout: 120_000,
        },
      },
      { ...shared, test: busTests('bus', 'dbus-daemon') },
      {
        ...shared,
        // What a shell completes does not depend on who carries the messages.
        test: { ...busTests('broker', 'dbus-broker'), exclude: ['test/bus/completion.test.ts'] },
      },
      {
        ...shared,
        test: { name: 'host', include: ['test/host/**/*.test.ts'], exclude: [withSwap] },
      },
      {
        ...shared,
        test: {
          name: 'trixie',
          include: onBothReleases,
          env: { LOCKERD_TEST_RELEASE: 'trixie' },
        },
      },
      { ...shared, test: { name: 'swap', include: [withSwap] } },
      { ...shared, test: { name: 'web', include: ['test/web/**/*.test.ts'] } },
      { ...shared, test: { name: 'attack', include: ['test/attack/**/*.test.ts'] } },
      {
        ...shared,
        test: {
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          globalSetup: 'test/package/build-once.ts',
        },
      },
      { ...shared, test: { name: 'vm', include: ['test/vm/**/*.test.ts'], exclude: [withTwoVms] } },
      { ...shared, test: { name: 'pair', include: [withTwoVms] } },
      {
        ...shared,
        test: {
          name: 'next',
          include: ['test/vm/**/*.test.ts', 'test/next/**/*.test.ts'],
          exclude: [withTwoVms],
          env: { LOCKERD_TEST_RELEASE: nextRelease },
        },
      },
    ],
  },
});
