import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

const TEMPLATES = '/usr/share/prometheus/alertmanager';

/**
 * The command before Alertmanager's own arguments. Debian's looks for its templates in /usr/share alone: one that was
 * unpacked elsewhere is started in a mount namespace of its own in which they are there.
 */
export function alertmanagerCommand(binary: string): readonly string[] {
  const unpacked = join(dirname(binary), '../share/prometheus/alertmanager');
  if (existsSync(TEMPLATES) || !existsSync(unpacked)) return [binary];
  const script =
    'mount -t tmpfs none /usr/share && mkdir /usr/share/prometheus && ln -s "$0" "$1" && shift && exec "$@"';
  return ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, unpacked, TEMPLATES, binary];
}
