import { main } from './main.ts';

main().then(
  // Open timers and sockets must not delay the exit.
  (status) => process.exit(status),
  (error: unknown) => {
    console.error('lockerd-autoballoon:', error);
    process.exit(1);
  },
);
