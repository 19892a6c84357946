import fs from 'node:fs';
import type { TestProject } from 'vitest/node';
import { buildPackage } from './packages.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Directories of two builds of the package: as it is, and with a version that comes before. */
    readonly packages: { readonly now: string; readonly before: string };
  }
}

/** Builds once what all files of the tier install. */
export default async function setup(project: TestProject): Promise<() => void> {
  // In dpkg's order it comes before the version itself.
  const [now, before] = await Promise.all([buildPackage(), buildPackage('~before')]);
  const packages = { now, before };
  project.provide('packages', packages);
  return () => {
    for (const directory of Object.values(packages)) fs.rmSync(directory, { recursive: true });
  };
}
