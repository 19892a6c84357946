import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readRequest } from '../../src/helper/input.ts';
import { parseUserId, peerOf } from '../../src/helper/peer.ts';
import { isName, parseRequest, requestMaxBytes } from '../../src/helper/request.ts';

const attach = {
  verb: 'attach',
  container: 'web',
  locker: 'data',
  readOnly: false,
  persist: false,
};

function parse(value: unknown): unknown {
  return parseRequest(Buffer.from(JSON.stringify(value)));
}

const invalid: unknown = expect.objectContaining({ code: 'InvalidArgs' });

/** What parsing throws; undefined when it does not. */
function whyNot(text: string | Buffer): unknown {
  try {
    parseRequest(Buffer.from(text));
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('a request', () => {
  test.each([
    attach,
    { ...attach, container: 'my 50%n "web" \\ é', locker: 'a@b:c;d#e' },
    { verb: 'detach', container: 'web', locker: 'data', force: true, persist: true },
    { verb: 'freeze', container: 'web' },
    { verb: 'thaw', container: 'web' },
    { verb: 'apply-limits', container: 'web' },
    { verb: 'set-autostart', container: 'web', autostart: false },
    { verb: 'look', containers: ['web', 'my web'] },
    { verb: 'look', containers: [] },
    { verb: 'watch' },
  ])('%j', (request) => {
    expect(parse(request)).toEqual(request);
  });

  test.each([
    '',
    'null',
    '[]',
    '"attach"',
    '{',
    '{}',
    '{"verb":"toString"}',
    '{"verb":["watch"]}',
    '{"verb":"watch","__proto__":{}}',
    '{"__proto__":{"verb":"watch"}}',
    '{"verb":"watch"} {}',
    '\ufeff{"verb":"watch"}',
    JSON.stringify({ ...attach, path: '/etc' }),
    '{"verb":"look","containers":"web"}',
    '{"verb":"look","containers":["web","../web"]}',
    '{"verb":"look","containers":["web",7]}',
    JSON.stringify({ ...attach, persist: undefined }),
    JSON.stringify({ ...attach, persist: 1 }),
    JSON.stringify({ ...attach, container: { toString: 'web' } }),
    JSON.stringify({ ...attach, verb: 'balloon' }),
    Buffer.from([0x22, 0xff, 0x22]),
  ])('is not %j', (text) => {
    expect(whyNot(text)).toEqual(invalid);
  });

  test('whatever comes is taken whole or refused', () => {
    const names = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('web', '..', 'a/b', '.x'),
    );
    const request = fc.record(
      {
        verb: fc.constantFrom('attach', 'detach', 'freeze', 'thaw', 'watch', 'x', '__proto__'),
        container: fc.oneof(names, fc.jsonValue()),
        locker: fc.oneof(names, fc.jsonValue()),
        readOnly: fc.oneof(fc.boolean(), fc.jsonValue()),
        force: fc.boolean(),
        persist: fc.boolean(),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(request, (value) => {
        let parsed: unknown;
        try {
          parsed = parse(value);
        } catch (error) {
          expect(error).toEqual(invalid);
          return;
        }
        expect(parsed).toEqual(value);
        for (const name of [value.container, value.locker]) {
          expect(name === undefined || isName(name)).toBe(true);
        }
      }),
      { numRuns: 1000 },
    );
  });

  test('any text at all is refused in words', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(whyNot(Buffer.from(bytes))).toEqual(invalid);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('a name', () => {
  test('is one visible part of a path', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        if (!isName(text)) return;
        expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f/]|^\.|^$/);
        expect(Buffer.from(text).toString()).toBe(text);
      }),
      { numRuns: 1000 },
    );
  });

  test('has at most 255 bytes', () => {
    expect(isName('é'.repeat(127))).toBe(true);
    expect(isName('é'.repeat(128))).toBe(false);
  });
});

describe('reading a request', () => {
  test('takes one line, in whatever pieces it comes', async () => {
    const input = new PassThrough();
    const request = readRequest(input);
    for (const char of 'ab\n') input.write(char);
    expect(Buffer.from(await request).toString()).toBe('ab');
  });

  test.each([
    ['more than one line', (input: PassThrough) => input.write('a\nb')],
    ['too long a line', (input: PassThrough) => input.write('x'.repeat(requestMaxBytes + 1))],
    ['an early end', (input: PassThrough) => input.end('{"verb"')],
    ['a broken connection', (input: PassThrough) => input.destroy(new Error('reset'))],
    ['silence', () => undefined],
  ])('refuses %s', async (_, act) => {
    const input = new PassThrough();
    const request = readRequest(input, 200);
    act(input);
    await expect(request).rejects.toEqual(invalid);
  });
});

test.each([
  ['0-123-995', 995],
  // systemd 257, and 258 with its cookie; on kernels without ids of pidfds as well.
  ['17-123_4567-0', 0],
  ['17-8204-123_4567-995', 995],
  ['17-8204-123-995', 995],
  ['3-18446744073709551615-4194304_18446744073709551615-4294967294', 4294967294],
])('the peer of %s is %i', (instance, uid) => {
  expect(peerOf(instance)).toBe(uid);
});

test.each([
  ...['', '995', '0-1', '0-1-', '0-1--1', 'a-1-0', '0-1-0x0', '0-1- 0', '0-1-0\n', '\n0-1-0'],
  ...['0-1-2-3-4', '0-1_2-3-4', '0_1-2-3', '0-1-2_3', '0-1_-3', '0-_1-3', '0-1_2_3-4'],
  ...['-1-2-0', '0-1-2-', '0-1-4294967295', '0-1-99999999999', '0-1-unknown', '0-1-+0', '0-1-0 '],
])('%j is the instance of no peer', (instance) => {
  expect(peerOf(instance)).toBeUndefined();
});

test('a user id in passwd(5)', () => {
  const passwd = 'root:x:0:0::/:/bin/sh\nlockerdx:x:1:1::/:\nlockerd:x:995:995::/:/x\nbad:x::\n';
  expect(parseUserId(passwd, 'lockerd')).toBe(995);
  expect(parseUserId(passwd, 'locker')).toBeUndefined();
  expect(parseUserId(passwd, 'bad')).toBeUndefined();
});
