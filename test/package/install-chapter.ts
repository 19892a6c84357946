/** The chapter "Install" of README.md, as what it tells an admin to run. */

import fs from 'node:fs';
import path from 'node:path';

const readme = path.resolve(import.meta.dirname, '../../README.md');
const [, chapter = ''] = /^## Install\n([^]*?)^## /m.exec(fs.readFileSync(readme, 'utf8')) ?? [];
const [intro = ''] = chapter.split(/^### /m);

/** The commands of the chapter's beginning, in their order. */
export const commands = [...intro.matchAll(/^ {4}(.+)$/gm)].map(([, command = '']) => command);

/** What the text of the chapter says to run, later and by choice. */
export const inline = [...chapter.matchAll(/`([^`\n]+)`/g)]
  .map(([, code = '']) => code)
  .filter((code) => /^(?:systemctl|lockerctl|lxc-stop) \S/.test(code));
