import { main } from './main.ts';

void main(process.argv.slice(2)).then((status) => {
  // A connection that its client keeps open must not keep this process.
  process.exit(status);
});
