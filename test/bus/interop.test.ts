// The service as clients see it that others wrote.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startPrivateBus, type PrivateBus } from './bus.ts';
import { service, startTestService, type TestService } from './support.ts';

const stranger = 65534;

let bus: PrivateBus;
let target: TestService;
beforeAll(async () => {
  bus = await startPrivateBus();
  target = await startTestService(bus);
});
afterAll(() => bus.close());

const name = service.destination;
const { path } = service;

/** Its output; fails with what it said when it failed. */
async function output(...argv: string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await bus.run(argv, { uid: stranger });
  expect(exitCode, `${argv.join(' ')}\n${stdout}${stderr}`).toBe(0);
  return stdout.trim();
}

async function failure(...argv: string[]): Promise<string> {
  const { stdout, stderr, exitCode } = await bus.run(argv, { uid: stranger });
  expect(exitCode, `${argv.join(' ')}\n${stdout}`).not.toBe(0);
  return stderr;
}

const python = (script: string): Promise<string> => output('/usr/bin/python3', '-c', script);

describe('busctl', () => {
  test('tree, introspect, call, get-property, set-property', async () => {
    const tree = await output('busctl', '--list', 'tree', name);
    expect(tree.split('\n')).toEqual(
      expect.arrayContaining(['/org/lockerd1', '/org/lockerd1/child/one']),
    );
    const members = await output('busctl', 'introspect', name, path, service.interface);
    expect(members).toMatch(/^\.Options +method +sa\{sv\} +as +-$/m);
    expect(members).toMatch(/^\.Guarded +method +sa\{sv\} +- +-$/m);
    expect(members).toMatch(/^\.Counter +property +u +0 +emits-change$/m);
    expect(members).toMatch(/^\.Version +property +s +"1" +const$/m);
    expect(members).toMatch(/^\.Later +property +t +9223372036854775808 +-$/m);
    expect(members).toMatch(/^\.Said +signal +sa\{sv\} +- +-$/m);
    const call = ['busctl', 'call', name, path, service.interface];
    expect(
      await output(...call, 'Options', 'sa{sv}', 'web', '2', 'wait', 'b', 'true', 'a', 's', 'x'),
    ).toBe('as 2 "wait" "a"');
    expect(await failure(...call, 'Guarded', 'sa{sv}', 'web', '0')).toContain('Access denied');
    expect(await failure(...call, 'Options', 's', 'web')).toContain('not "s"');
    const property = [name, path, service.interface, 'Counter'];
    expect(await output('busctl', 'get-property', ...property)).toBe('u 0');
    expect(await failure('busctl', 'set-property', ...property, 'u', '5')).toContain(
      'cannot be set',
    );
    expect(await output('busctl', 'get-property', ...property)).toBe('u 0');
  });
});

describe('gdbus', () => {
  test('introspect with argument names, call, monitor', async () => {
    const xml = await output(
      'gdbus',
      'introspect',
      '--system',
      '--dest',
      name,
      '--object-path',
      path,
      '--xml',
    );
    expect(xml).toMatch(/<arg[^>]*\sname="options"[^>]*>/);
    const call = ['gdbus', 'call', '--system', '--dest', name, '--object-path', path, '--method'];
    expect(await output(...call, `${service.interface}.Echo`, "<{'a': <@t 7>}>")).toBe(
      "(<{'a': <uint64 7>}>,)",
    );
    const types = [
      '1',
      'true',
      '-2',
      '3',
      '-4',
      '5',
      '-6',
      '7',
      '1.5',
      'text',
      '/a/b',
      'a{sv}',
      '[byte 1]',
      "[('a','b','/c')]",
      "{'k': <1>}",
    ];
    expect(await output(...call, `${service.interface}.Types`, '--', ...types)).toContain(
      'number boolean number number number number bigint bigint number string string string object object object',
    );
    const managed = await output(...call, 'org.freedesktop.DBus.ObjectManager.GetManagedObjects');
    expect(managed).toContain("objectpath '/org/lockerd1/child/one': {'org.lockerd1.Test.Child'");
    const monitor = bus.spawn(['gdbus', 'monitor', '--system', '--dest', name]);
    let seen = '';
    monitor.stdout?.setEncoding('utf8').on('data', (text: string) => (seen += text));
    await expect.poll(() => seen, { timeout: 30_000 }).toContain('is owned by');
    await output(...call, `${service.interface}.Say`, 'hello');
    await output(...call, `${service.interface}.SetCounter`, '3');
    await output(...call, `${service.interface}.Add`, '/org/lockerd1/child/two');
    await output(...call, `${service.interface}.Remove`, '/org/lockerd1/child/two');
    await output(...call, `${service.interface}.SetCounter`, '0');
    await expect
      .poll(() => seen, { timeout: 30_000 })
      .toMatch(
        /Said \('hello', @a\{sv\} \{\}\)[^]*PropertiesChanged \('org.lockerd1.Test', \{'Counter': <uint32 3>\}, @as \[\]\)[^]*InterfacesAdded[^]*InterfacesRemoved \(objectpath '\/org\/lockerd1\/child\/two', \['org.lockerd1.Test.Child'\]\)/,
      );
  });
});

test('dbus-send', async () => {
  const send = ['dbus-send', '--system', '--print-reply', `--dest=${name}`, path];
  const echo = await output(
    ...send,
    `${service.interface}.Echo`,
    'variant:int64:-9223372036854775808',
  );
  expect(echo).toContain('int64 -9223372036854775808');
  expect(await output(...send, 'org.freedesktop.DBus.Peer.GetMachineId')).toMatch(/"[0-9a-f]{32}"/);
  expect(await failure(...send, `${service.interface}.None`)).toContain('UnknownMethod');
  const quiet = ['dbus-send', '--system', '--type=method_call', `--dest=${name}`, path];
  expect(await output(...quiet, `${service.interface}.Bump`)).toBe('');
});

test('dasbus', async () => {
  expect(
    await python(`
from dasbus.connection import SystemMessageBus
from dasbus.error import DBusError
proxy = SystemMessageBus().get_proxy('${name}', '${path}')
print(proxy.Options('web', {}), proxy.Version, proxy.Later)
try:
    proxy.Guarded('web', {})
except DBusError as error:
    print(error)`),
  ).toBe('[] 1 9223372036854775808\nnobody may call this method');
});

test('jeepney', async () => {
  expect(
    await python(`
from jeepney import DBusAddress, Properties, new_method_call
from jeepney.io.blocking import open_dbus_connection
connection = open_dbus_connection(bus='SYSTEM')
address = DBusAddress('${path}', '${name}', '${service.interface}')
print(connection.send_and_get_reply(Properties(address).get('Map')).body)
print(connection.send_and_get_reply(new_method_call(address, 'Echo', 'v', (('a(sso)', [('a', 'b', '/c')]),))).body)
reply = connection.send_and_get_reply(new_method_call(address, 'FailBadly'))
print(reply.header.fields[4])`),
  ).toBe(
    "(('a{sv}', {'a': ('i', -1)}),)\n(('a(sso)', [('a', 'b', '/c')]),)\norg.lockerd1.Error.Failed",
  );
});

// The content models of introspect.dtd: element -> what it may contain, its attributes.
const dtd = `
models = {
  'node': ({'node', 'interface'}, set(), {'name'}),
  'interface': ({'method', 'signal', 'property', 'annotation'}, {'name'}, set()),
  'method': ({'arg', 'annotation'}, {'name'}, set()),
  'signal': ({'arg', 'annotation'}, {'name'}, set()),
  'property': ({'annotation'}, {'name', 'type', 'access'}, set()),
  'arg': ({'annotation'}, {'type'}, {'name', 'direction'}),
  'annotation': (set(), {'name', 'value'}, set()),
}`;

test.each(['/', '/org', '/org/lockerd1', '/org/lockerd1/child', '/org/lockerd1/child/one'])(
  'the introspection data of %s is valid',
  async (object) => {
    expect(
      await python(`
from jeepney import DBusAddress, new_method_call
from jeepney.io.blocking import open_dbus_connection
import xml.etree.ElementTree as ET
${dtd}
def check(element):
    children, required, optional = models[element.tag]
    attributes = set(element.attrib)
    assert required <= attributes <= required | optional, (element.tag, attributes)
    assert not (element.text or '').strip() and not (element.tail or '').strip(), element.tag
    for child in element:
        assert child.tag in children, (element.tag, child.tag)
        check(child)
address = DBusAddress('${object}', '${name}', 'org.freedesktop.DBus.Introspectable')
text = open_dbus_connection(bus='SYSTEM').send_and_get_reply(new_method_call(address, 'Introspect')).body[0]
assert text.startswith('<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"')
root = ET.fromstring(text)
assert root.tag == 'node'
check(root)
print('valid')`),
    ).toBe('valid');
  },
);

test('nothing of all this was a fault of the service', async () => {
  await target.expectAlive();
  expect(target.log()).not.toMatch(/MarshalError|Unhandled|dropped/);
});
