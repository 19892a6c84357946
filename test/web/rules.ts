/** Rules of polkit that change while the page is open. */

import type { Host } from '../host/host.ts';

/** Has polkit permit a user a single action, such as `start`, for which it reads its rules anew. */
export async function permitOnly(host: Host, user: string, action: string): Promise<void> {
  const rule = `polkit.addRule(function (action, subject) {
    if (subject.user !== "${user}" || action.id.indexOf("org.lockerd1.") !== 0) {
      return polkit.Result.NOT_HANDLED;
    }
    return action.id === "org.lockerd1.${action}" ? polkit.Result.YES : polkit.Result.NO;
  });\n`;
  await host.writeFile(`/etc/polkit-1/rules.d/10-${user}.rules`, rule);
}
