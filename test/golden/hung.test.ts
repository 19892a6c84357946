/** A file system that stops answering while it is read takes some seconds and its own containers. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { hungServer } from '../machines/hung-server.ts';
import { compiledGenerator, project, run } from './cases.ts';

/** Two containers; the directory of one is the file system, which answers to the probe alone. */
const script = `
perl "$1/hung.pl" "$1/root/var/lib/lxc/late" late &
server=$!
until grep -q " $1/root/var/lib/lxc/late " /proc/self/mountinfo; do sleep 0.05; done
LOCKERD_ROOT=$1/root timeout 60 "$2" "$1/out" "$1/out" "$1/out"
status=$?
kill -9 "$server"
umount -l "$1/root/var/lib/lxc/late"
exit "$status"
`;

describe.each([
  ['on Node', join(project, 'dist/lockerd-generator')],
  ['compiled', compiledGenerator],
])('%s', (_, program) => {
  test.skipIf(!existsSync(program))('gives up what hangs, and nothing else', async () => {
    const work = mkdtempSync(join(tmpdir(), 'lockerd-hung-'));
    try {
      for (const name of ['late', 'web', 'rooted']) {
        const config = join(work, 'root/var/lib/lxc', name, 'config');
        mkdirSync(dirname(config), { recursive: true });
        writeFileSync(
          config,
          name === 'rooted'
            ? 'lxc.rootfs.path = dir:/var/lib/lxc/late/rootfs\n'
            : 'lxc.uts.name = x\n',
        );
      }
      mkdirSync(join(work, 'out'));
      writeFileSync(join(work, 'hung.pl'), hungServer);
      const start = performance.now();
      const { status, stderr } = await run('unshare', [
        '--mount',
        '--propagation=private',
        'sh',
        '-c',
        script,
        'sh',
        work,
        program,
      ]);
      expect(performance.now() - start).toBeLessThan(20_000);
      const dropIn = (name: string): string =>
        readFileSync(join(work, `out/lxc@${name}.service.d/60-container.conf`), 'utf8');
      expect(stderr).toMatch(
        /warning: the file system at \S+\/late does not answer: reading \S+ was/,
      );
      expect(dropIn('late')).toMatch(/refuse-start.*does not answer.*daemon-reload/);
      expect(dropIn('late')).not.toMatch(/^SourcePath=/m);
      for (const name of ['web', 'rooted']) expect(dropIn(name)).not.toContain('refuse-start');
      expect(existsSync(join(work, 'out/lockerd.service.d/60-host.conf'))).toBe(true);
      expect(status).toBe(1);
    } finally {
      rmSync(work, { recursive: true });
    }
  });
});
