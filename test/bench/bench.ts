// npm run bench: all tables that follow, from one run.
// npm run bench -- generator: see generator.ts.
// npm run bench -- bus: see bus.ts.
// npm run bench -- starts, npm run bench -- reloads: see starts.ts.
//
// Longer ones, each by its name only:
// npm run bench -- shrinks: see shrinks.ts.
// npm run bench -- autoballoon: see autoballoon.ts.
// npm run bench -- moves: see moves.ts.
import process from 'node:process';

const usual: Readonly<Record<string, (args: readonly string[]) => Promise<boolean>>> = {
  generator: async (args) => (await import('./generator.ts')).benchGenerator(args),
  bus: async () => {
    await (await import('./bus.ts')).benchBus();
    return true;
  },
  starts: async (args) => {
    await (await import('./starts.ts')).benchStarts(args);
    return true;
  },
  reloads: async (args) => {
    await (await import('./starts.ts')).benchReloads(args);
    return true;
  },
};

const others: typeof usual = {
  shrinks: async (args) => {
    await (await import('./shrinks.ts')).benchShrinks(args);
    return true;
  },
  moves: async (args) => {
    await (await import('./moves.ts')).benchMoves(args);
    return true;
  },
  autoballoon: async (args) => {
    await (await import('./autoballoon.ts')).benchAutoballoon(args);
    return true;
  },
};

const [which, ...args] = process.argv.slice(2);
const named = { ...usual, ...others }[which ?? ''];
if (which === undefined) {
  for (const run of Object.values(usual)) if (!(await run([]))) process.exitCode = 1;
} else if (named !== undefined) {
  if (!(await named(args))) process.exitCode = 1;
} else {
  console.error(
    `npm run bench [-- ${[...Object.keys(usual), ...Object.keys(others)].join(' | ')}]`,
  );
  process.exitCode = 2;
}
