import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { run } from '../../src/helper/main.ts';
import type { Request } from '../../src/helper/request.ts';

const requests = 10_000;
const passwd = 'root:x:0:0::/:/bin/sh\nlockerd:x:995:995::/:/x\n';
const lockerd = '1-2-3_4-995';

/** Every verb with its members; a request is served only if it has exactly these. */
const verbs: Readonly<Record<string, Readonly<Record<string, RegExp>>>> = {
  attach: { container: /^s$/, locker: /^s$/, readOnly: /^b$/, persist: /^b$/ },
  detach: { container: /^s$/, locker: /^s$/, force: /^b$/, persist: /^b$/ },
  balloon: { container: /^s$/, limit: /^s$/, swap: /^[su]$/, force: /^b$/, persist: /^b$/ },
  freeze: { container: /^s$/ },
  thaw: { container: /^s$/ },
  'apply-limits': { container: /^s$/ },
  'set-autostart': { container: /^s$/, autostart: /^b$/ },
  look: { containers: /^o$/ },
  watch: {},
};

function listOf(value: unknown): readonly unknown[] {
  // What is no name in a list is none at all.
  return Array.isArray(value) ? value.map((one: unknown) => one ?? 7) : [];
}

function isSound(request: Readonly<Record<string, unknown>>): boolean {
  const { verb, ...given } = request;
  if (typeof verb !== 'string' || !Object.hasOwn(verbs, verb)) return false;
  const members = verbs[verb] ?? {};
  const types = { string: 's', boolean: 'b', undefined: 'u', object: 'o' } as Readonly<
    Record<string, string>
  >;
  return (
    Object.keys(given).every((name) => Object.hasOwn(members, name)) &&
    Object.entries(members).every(([name, type]) => type.test(types[typeof given[name]] ?? '')) &&
    (given['containers'] === undefined || Array.isArray(given['containers'])) &&
    [given['container'], given['locker'], ...listOf(given['containers'])].every(
      (name) =>
        name === undefined ||
        (typeof name === 'string' && /^[^./\u0000-\u001f][^/\u0000-\u001f]*$/.test(name)),
    ) &&
    [given['limit'], given['swap']].every(
      (limit) =>
        limit === undefined || (typeof limit === 'string' && /^(max|[0-9]{1,20})$/.test(limit)),
    )
  );
}

// What is logged is not what is tested.
beforeAll(() => {
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
});
afterAll(() => {
  vi.restoreAllMocks();
});

interface Outcome {
  readonly status: number;
  readonly answers: readonly Readonly<Record<string, unknown>>[];
  readonly served: readonly Request[];
}

/** Sends bytes in pieces and hangs up, as a client may. */
async function send(
  bytes: Uint8Array,
  cuts: readonly number[],
  instance: string,
): Promise<Outcome> {
  const input = new PassThrough();
  const output = new PassThrough();
  let text = '';
  output.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const served: Request[] = [];
  const status = run(instance, {
    ...{ input, output, passwd: () => passwd },
    serve: (request) => {
      served.push(request);
      return Promise.resolve({ changed: true });
    },
  });
  let from = 0;
  for (const cut of [...cuts, bytes.length].sort((a, b) => a - b)) {
    input.write(bytes.subarray(from, Math.min(cut, bytes.length)));
    from = Math.min(cut, bytes.length);
  }
  input.end();
  const result = await status;
  await new Promise((resolve) => setImmediate(resolve));
  const lines = text.split('\n');
  expect(lines.pop()).toBe('');
  const answers = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  return { status: result, answers, served };
}

const name = fc.oneof(
  fc.constantFrom('web', 'my 50%n', '..', '.', '', '../web', 'a/b', '.x', '--help', 'web\n', 'é'),
  fc.constantFrom('web\0', '\ud800', 'x'.repeat(300), 'toString', '__proto__'),
  fc.string({ unit: 'binary', maxLength: 20 }),
);
const limit = fc.oneof(
  fc.constantFrom('max', '104857600'),
  fc.constantFrom('max', '0', '1', '-1', '1e3', '0x10', ' 1', '18446744073709551615'),
  fc.constantFrom('18446744073709551616', '99999999999999999999', '5\nMemoryMax=1', 'MAX'),
);
const anything = fc.oneof(fc.jsonValue({ maxDepth: 2 }), name);
const rarely = <T>(usual: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 15, arbitrary: usual }, { weight: 1, arbitrary: anything });

/** Mostly a request that could be one, so that all verbs are served as well. */
const request = fc
  .tuple(
    rarely(fc.constantFrom(...Object.keys(verbs), 'rm', 'toString', '__proto__', 'constructor')),
    fc.record({
      ...{ container: rarely(fc.oneof(fc.constant('web'), name)) },
      containers: rarely(fc.array(fc.oneof(fc.constant('web'), name), { maxLength: 3 })),
      ...{ locker: rarely(fc.oneof(fc.constant('data'), name)) },
      ...{ limit: rarely(limit), swap: rarely(limit) },
      ...{ readOnly: rarely(fc.boolean()), force: rarely(fc.boolean()) },
      ...{ persist: rarely(fc.boolean()), autostart: rarely(fc.boolean()) },
    }),
    fc.oneof({ weight: 8, arbitrary: fc.constant({}) }, fc.dictionary(fc.string(), anything)),
    fc.integer({ min: 0, max: 9 }),
  )
  .map(([verb, members, more, luck]) => {
    const known = typeof verb === 'string' && Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
    const wanted = Object.keys(known ?? members);
    // Now and then one is missing, or one of another verb's is there.
    const kept = luck === 0 ? wanted.slice(1) : luck === 1 ? Object.keys(members) : wanted;
    const given = Object.entries(members).filter(([key]) => kept.includes(key));
    return { verb, ...Object.fromEntries(given), ...more };
  })
  .map((value) => Buffer.from(`${JSON.stringify(value)}\n`));

const bytes = fc.oneof(
  { weight: 120, arbitrary: request },
  { weight: 10, arbitrary: fc.uint8Array({ maxLength: 300 }) },
  // Twice, not whole, and with bytes changed.
  { weight: 10, arbitrary: request.map((one) => Buffer.concat([one, one])) },
  { weight: 10, arbitrary: request.map((one) => one.subarray(0, one.length / 2)) },
  {
    weight: 20,
    arbitrary: fc.tuple(request, fc.nat(), fc.nat(255)).map(([one, at, byte]) => {
      const changed = Buffer.from(one);
      changed[at % changed.length] = byte;
      return changed;
    }),
  },
  { weight: 1, arbitrary: fc.constant(Buffer.alloc(70_000, 0x20)) },
  { weight: 1, arbitrary: fc.constant(Buffer.from(`${'['.repeat(30_000)}\n`)) },
);

test(`${requests} requests: each has one answer, and only what is sound is done`, async () => {
  const done = new Map<string, number>();
  let refused = 0;
  await fc.assert(
    fc.asyncProperty(bytes, fc.array(fc.nat(400), { maxLength: 3 }), async (sent, cuts) => {
      const { status, answers, served } = await send(sent, cuts, lockerd);
      expect(status).toBe(0);
      expect(answers).toHaveLength(1);
      const [answer] = answers;
      if (answer?.['ok'] === true) {
        expect(served).toHaveLength(1);
        expect(isSound({ ...served[0] })).toBe(true);
        const text = Buffer.from(sent).toString().split('\n', 1)[0] ?? '';
        expect(served[0]).toEqual(JSON.parse(text));
        const verb = served[0]?.verb ?? '';
        done.set(verb, (done.get(verb) ?? 0) + 1);
      } else {
        expect(served).toEqual([]);
        expect(answer).toEqual({
          ...{ ok: false, error: 'InvalidArgs' },
          message: expect.stringMatching(/^[^\n]{1,200}$/) as string,
        });
        refused++;
      }
    }),
    { numRuns: requests },
  );
  // It is no test if nothing or everything is refused.
  expect([...done.keys()].sort()).toEqual(Object.keys(verbs).sort());
  expect(Math.min(...done.values())).toBeGreaterThan(10);
  expect(refused).toBeGreaterThan(1000);
}, 300_000);

test('who is not lockerd is refused, whatever it asks', async () => {
  const instance = fc.oneof(
    fc.constantFrom('1-2-1000', '1-2-3_4-994', '1-9-2-3_4-1000', '1-2-9950', '', '995', '-995'),
    fc.string({ maxLength: 20 }),
    fc.stringMatching(/^[0-9]-[0-9]-[0-9_-]{1,6}-994$/),
  );
  await fc.assert(
    fc.asyncProperty(bytes, instance, async (sent, peer) => {
      const { answers, served } = await send(sent, [], peer);
      expect(served).toEqual([]);
      expect(answers).toEqual([
        { ok: false, error: 'AccessDenied', message: 'only lockerd may ask its helper' },
      ]);
    }),
    { numRuns: 1000 },
  );
}, 120_000);

test('what is wrong inside is answered as well, and not told', async () => {
  const input = new PassThrough();
  const output = new PassThrough();
  const served = run(lockerd, {
    ...{ input, output, passwd: () => passwd },
    serve: () => Promise.reject(new Error('secret of the helper')),
  });
  input.end('{"verb":"freeze","container":"web"}\n');
  expect(await served).toBe(0);
  expect(String(output.read())).toBe(
    '{"ok":false,"error":"Failed","message":"the request failed; see \\"journalctl -t lockerd-helper\\""}\n',
  );
});
