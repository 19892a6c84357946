// A caller of another uid, which can be its own password agent (polkit(8)). Orders come as JSON
// lines on standard input, and what happens goes out as JSON lines.
//
//   usage: caller.ts ADDRESS UID

import fs from 'node:fs';
import { createInterface } from 'node:readline';
import { type CallFrame, connectBus } from '../../src/bus/connection.ts';
import { unmarshal } from '../../src/bus/unmarshal.ts';
import { DBusError, Variant } from '../../src/bus/values.ts';

const [address = '', uid = ''] = process.argv.slice(2);
// Only now, because the modules are perhaps not to be read by everybody.
process.setgroups?.([]);
process.setgid?.(Number(uid));
process.setuid?.(Number(uid));

const agentPath = '/org/freedesktop/PolicyKit1/AuthenticationAgent';
const connection = await connectBus({ address });
const waiting = new Map<string, CallFrame>();

function tell(event: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** When this process started, in clock ticks since boot: field 22 of proc(5)'s stat. */
function startTime(): bigint {
  const stat = fs.readFileSync('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return BigInt(fields[19] ?? 0);
}

connection.handleCalls((call) => {
  const body = unmarshal(call.signature, call.body ?? Buffer.alloc(0), call.bigEndian);
  if (call.member === 'BeginAuthentication') {
    const [action, message, , , cookie] = body;
    waiting.set(String(cookie), call);
    tell({ event: 'begin', action, message, cookie });
  } else if (call.member === 'CancelAuthentication') {
    tell({ event: 'cancel', cookie: body[0] });
    connection.reply(call, '', []);
  } else {
    connection.replyError(call, new DBusError('org.freedesktop.DBus.Error.UnknownMethod', ''));
  }
});

createInterface(process.stdin).on('line', (line) => {
  const order = JSON.parse(line) as { order: string; cookie?: string };
  if (order.order === 'register') {
    const process_ = {
      pid: new Variant('u', process.pid),
      'start-time': new Variant('t', startTime()),
      uid: new Variant('i', Number(uid)),
    };
    void connection
      .call({
        destination: 'org.freedesktop.PolicyKit1',
        path: '/org/freedesktop/PolicyKit1/Authority',
        interface: 'org.freedesktop.PolicyKit1.Authority',
        member: 'RegisterAuthenticationAgent',
        signature: '(sa{sv})ss',
        body: [['unix-process', process_], 'C', agentPath],
      })
      .then(
        () => {
          tell({ event: 'registered' });
        },
        (error: unknown) => {
          tell({ event: 'failed', message: String(error) });
        },
      );
    return;
  }
  const call = waiting.get(order.cookie ?? '');
  if (call === undefined) return;
  waiting.delete(order.cookie ?? '');
  if (order.order === 'done') connection.reply(call, '', []);
  else {
    const dismissed = 'org.freedesktop.PolicyKit1.Error.Cancelled';
    connection.replyError(call, new DBusError(dismissed, 'dismissed'));
  }
});
process.stdin.on('end', () => process.exit(0));
tell({ event: 'connected', name: connection.uniqueName });
