import attachment from '../../units/attachment.mount.hbs';
import bridge from '../../units/bridge.conf.hbs';
import container from '../../units/container.conf.hbs';
import delay from '../../units/delay.conf.hbs';
import forward from '../../units/forward.service.hbs';
import group from '../../units/group.conf.hbs';
  readOnly,
