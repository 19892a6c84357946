import { defineConfig } from 'vitest/config';
import { viteHandlebars } from './src/build/handlebars.mjs';
import { nextRelease } from './test/vm/image.mjs';

const seed = ['test/seed.ts'];

/** Hosts share the machine's swap, with which others of their tests would end differently. */
const withSwap = 'test/host/swap.test.ts';

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

/** A tier each; test/run.mjs runs them in this order. */
export default defineConfig({
  test: {
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
      { ...shared, test: busTests('broker', 'dbus-broker') },
      {
        ...shared,
        test: { name: 'host', include: ['test/host/**/*.test.ts'], exclude: [withSwap] },
      },
      { ...shared, test: { name: 'swap', include: [withSwap] } },
      { ...shared, test: { name: 'attack', include: ['test/attack/**/*.test.ts'] } },
      {
        ...shared,
        test: {
          name: 'package',
          include: ['test/package/**/*.test.ts'],
          globalSetup: 'test/package/build-once.ts',
        },
      },
      { ...shared, test: { name: 'vm', include: ['test/vm/**/*.test.ts'] } },
      {
        ...shared,
        test: {
          name: 'next',
          include: ['test/vm/**/*.test.ts', 'test/next/**/*.test.ts'],
          env: { LOCKERD_TEST_RELEASE: nextRelease },
        },
      },
    ],
  },
});
