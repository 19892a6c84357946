import { main } from './main.ts';

main(process.argv.slice(2)).then(
  // A connection that was cut must not delay the exit.
  (status) => process.exit(status),
  (error: unknown) => {
    console.error(`<3>${error instanceof Error ? error.message : String(error)}`);
    process.exit(1);
  },
);
