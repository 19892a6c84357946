import { main } from './main.ts';
import { readTraits } from './terminal.ts';

// The reader of the output has seen enough, as with "lockerctl list | head -1".
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

void main(process.argv.slice(2), readTraits(process, process.env)).then((status) => {
  process.exitCode = status;
});
