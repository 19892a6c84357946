// npm run bench [-- --short]: see generator.ts.
// npm run bench -- shrinks: see shrinks.ts.
// npm run bench -- autoballoon: see autoballoon.ts.
import process from 'node:process';

const [which, ...args] = process.argv.slice(2);
if (which === 'shrinks') await (await import('./shrinks.ts')).benchShrinks(args);
else if (which === 'autoballoon') await (await import('./autoballoon.ts')).benchAutoballoon(args);
else {
  const { benchGenerator } = await import('./generator.ts');
  if (!benchGenerator(process.argv.slice(2))) process.exitCode = 1;
}
