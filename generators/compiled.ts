/** Both programs in one, told apart by the name they are run by; see src/build/compile.mjs. */
import * as std from 'quickjs:std';
import { main as generate } from '../src/generator/main.ts';
import { main as tellLockers } from '../src/lockers/main.ts';

const [name = '', ...args] = scriptArgs;
const main = name.endsWith('lockerd-lockers') ? tellLockers : generate;
std.exit(main(args, std.getenviron()));
