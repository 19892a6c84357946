/** The commands of lockerctl that take all files of a container elsewhere, for the table of commands. */

import { container, type CommandSpec } from './command-spec.ts';

export const fileCommands = {
  move: {
    operands: [container('one'), { kind: 'host', name: 'TARGET', count: 'optional' }],
    options: {
      'dry-run': '',
      abort: '',
      'delete-source': '',
      'with-lockers': '',
      store: 'A store of the other host, for --with-lockers',
      'no-progress': '',
    },
    summary: 'Move a container to another host (root only)',
    help: 'Copies it while it runs, stops it, copies the rest, starts it there, and only then gives it up here; see lockerctl-move(8). Whatever fails, it runs here again, and a second try goes on from what was copied. TARGET is [USER@]HOST[:PORT], where that user is root; --abort needs none.',
    examples: [
      'lockerctl move web root@host2.example --dry-run',
      'lockerctl move web root@host2.example',
      'lockerctl move --abort web',
    ],
    statuses: [
      ['0', 'the container is on the other host'],
      ['1', 'it is where it was'],
      ['2', 'wrong usage'],
      ['4', 'the caller is not root'],
      ['5', 'there is no such container'],
    ],
  },
  export: {
    operands: [container('one'), { kind: 'file', name: 'FILE', count: 'one' }],
    options: {
      freeze: 'One that runs stands still meanwhile',
      'no-progress': '',
    },
    summary: 'Write a container into a file (root only)',
    help: 'A tar archive with its files, configuration and settings; see lockerctl-archive(8). It must not run, unless --freeze is given. FILE must not be there; one that ends in .gz, .xz or .zst is compressed.',
    examples: [
      'lockerctl export web /backup/web.tar.zst',
      'lockerctl export --freeze db /backup/db.tar',
    ],
  },
  'import-archive': {
    operands: [{ kind: 'file', name: 'FILE', count: 'one' }],
    options: { name: '', 'dry-run': '', 'no-progress': '' },
    summary: 'Make a container of such a file (root only)',
    help: 'All of it, or nothing. Only take files from somebody whom you would let be root; see lockerctl-archive(8).',
    examples: [
      'lockerctl import-archive /backup/web.tar.zst --dry-run',
      'lockerctl import-archive /backup/web.tar.zst --name=web2',
    ],
  },
} as const satisfies Readonly<Record<string, CommandSpec>>;
