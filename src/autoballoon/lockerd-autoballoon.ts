import { main } from './main.ts';

main().then(
  // Timers and sockets that are left must not hold up the end.
  (status) => process.exit(status),
  (error: unknown) => {
    console.error('lockerd-autoballoon:', error);
    process.exit(1);
  },
);
