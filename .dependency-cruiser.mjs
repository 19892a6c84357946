/** Floors of src, the lowest first: a room may import from lower floors only. */
const floors = [
  ['model'],
  ['api'],
  ['bus', 'host', 'cgroup'],
  ['systemd', 'stores'],
  ['core'],
  ['balloon'],
  ['adapters'],
  ['generator', 'lockers', 'helper', 'autoballoon', 'service'],
  ['cluster'],
  ['check', 'explain', 'import', 'move'],
  ['archive'],
  ['cli', 'cockpit'],
];

const rooms = floors.flat();

/** @param {readonly string[]} names */
const within = (names) => `^src/(${names.join('|')})/`;

const arrows = floors.flatMap((floor, index) =>
  floor.map((room) => {
    const below = floors.slice(0, index).flat();
    const forbidden = rooms.filter((other) => other !== room && !below.includes(other));
    return {
      name: `${room}-imports-downwards`,
      comment: `src/${room} may import from ${below.join(', ') || 'nothing else of src'}.`,
      severity: 'error',
      from: { path: within([room]) },
      to: { path: within(forbidden) },
    };
  }),
);

/** One module knows one outside system. */
const specialists = [
  ['dbus-next', ['bus']],
  ['ini', ['host', 'helper']],
  ['execa', ['adapters', 'helper', 'move', 'cli']],
];

export default {
  forbidden: [
    ...arrows,
    {
      name: 'cli-imports-no-other-program',
      comment: 'What the command line needs of another program is in a floor between them.',
      severity: 'error',
      from: { path: within(['cli']) },
      to: { path: within(['generator', 'lockers', 'helper', 'autoballoon', 'service']) },
    },
    {
      name: 'cockpit-runs-in-browsers',
      comment: 'What the page for Cockpit is made of knows neither Node nor the bus.',
      severity: 'error',
      from: { path: within(['cockpit']) },
      to: { path: within(rooms.filter((room) => !['model', 'api', 'cockpit'].includes(room))) },
    },
    {
      name: 'no-circle',
      comment: 'Of two files that need each other, neither can be read first.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    ...specialists.map(([name, users]) => ({
      name: `${name}-in-${users.join('-and-')}`,
      severity: 'error',
      from: { path: '^src/', pathNot: within(users) },
      to: { path: `^node_modules/${name}/` },
    })),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { extensions: ['.ts', '.tsx', '.mjs', '.js'] },
  },
};
