import path from 'node:path';
import { build } from 'esbuild';
import { esbuildDbusNext } from '../../src/build/dbus-next.mjs';

/** A program of the tests as it would be packaged: one file, without types. Answers its path. */
export async function bundle(entry: string, directory: string): Promise<string> {
  const outfile = path.join(directory, `${path.basename(entry, '.ts')}.mjs`);
  await build({
    entryPoints: [path.resolve(import.meta.dirname, '../..', entry)],
    outfile,
    bundle: true,
    platform: 'node',
    target: 'node18.19',
    format: 'esm',
    banner: {
      js: "import { createRequire } from 'node:module'; const require = createRequire('/');",
    },
    define: { LOCKERD_VERSION: '"test"' },
    plugins: [esbuildDbusNext],
    logLevel: 'warning',
  });
  return outfile;
}
