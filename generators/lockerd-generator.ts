import { main } from '../src/generator/main.ts';

process.exitCode = main(process.argv.slice(2), process.env);
