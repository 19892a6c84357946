import { afterAll, beforeAll, expect, inject, test, vi } from 'vitest';
import { bootHost, type Host } from '../host/host.ts';
import { attachJournalOnFailure } from '../machines/journal.ts';
import { describeReleases } from './describe-releases.ts';
import { ensurePackageImage } from './package-images.mjs';
import { fileWith, give, programsDeb, runWithNetwork } from './packages.ts';

/** The tests in the source package, run by autopkgtest as Debian's machines run them. */
vi.setConfig({ testTimeout: 900_000, hookTimeout: 900_000 });

const { now: built } = inject('packages');

describeReleases('on %s', (release) => {
  let host: Host;
  beforeAll(async () => {
    const image = await ensurePackageImage(release);
    host = await bootHost({ name: `tested-${release}`, image, install: false });
    const install =
      'apt-get update && apt-get install -y --no-install-recommends autopkgtest dpkg-dev';
    const env = { DEBIAN_FRONTEND: 'noninteractive' };
    await runWithNetwork(host, 'sh', ['-euc', install], { timeoutMs: 300_000, env });
  });
  afterAll(() => host.close());
  attachJournalOnFailure(() => host);

  test('autopkgtest passes', async () => {
    const deb = give(host, fileWith(built, programsDeb));
    const dsc = give(host, fileWith(built, '.dsc'));
    give(host, fileWith(built, '.tar.xz'));
    // The host is no machine, but it has systemd and can run containers.
    const options = '--ignore-restrictions=isolation-machine --output-dir=/srv/result';
    // It opens its output anew, which a socket does not allow.
    const script = `autopkgtest ${options} "$@" -- null >/srv/log 2>&1`;
    const { exitCode } = await host.run('sh', ['-c', script, 'sh', deb, dsc], {
      reject: false,
      timeoutMs: 600_000,
    });
    expect(exitCode, await host.readFile('/srv/log')).toBe(0);
    expect(await host.readFile('/srv/result/summary')).toMatch(/^containers +PASS$/m);
  });
});
