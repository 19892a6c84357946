import { main } from './main.ts';

void main(process.argv.slice(2)).then((status) => {
  // A connection that the client keeps open must not keep this process alive.
  process.exit(status);
});
