/** A filesystem on this machine. */
export interface LocalMount {
  /** As the host sees it. */
  readonly mountPoint: string;
  readonly device: string;
  readonly type: string;
  readonly readOnly: boolean;
}

/**
 * Filesystems whose data is on this machine. Everything else is left out (nfs, lustre, ceph, fuse ...): asking a
 * server that is gone for its free space never returns.
 */
const LOCAL_TYPES = new Set([
  'bcachefs',
  'btrfs',
  'exfat',
  'ext2',
  'ext3',
  'ext4',
  'f2fs',
  'jfs',
  'ntfs3',
  'reiserfs',
  'tmpfs',
  'vfat',
  'xfs',
  'zfs',
]);
/** Many, small and of no use to anyone: what the system and containers mount for themselves. */
const NOT_SHOWN = /^\/(dev(?!\/shm$)|proc|run|sys|var\/lib\/(docker|containers|containerd|kubelet))($|\/)/;
const MAX_MOUNTS = 64;
/** Optional fields of a line end with this. */
const SEPARATOR = '-';
/** Both lists of options begin with it. */
const OPTIONS = /^(rw|ro)(,|$)/;

/**
 * The local filesystems of /proc/<pid>/mountinfo, each once: bind mounts have its device number again.
 *
 *     36 35 98:0 / /data rw,noatime master:1 - ext3 /dev/sdb1 rw,errors=continue
 *
 * Gives also how many lines could not be read.
 */
export function localMounts(text: string): { readonly mounts: LocalMount[]; readonly malformed: number } {
  const byPath = new Map<string, LocalMount & { readonly number: string }>();
  let malformed = 0;
  // What is behind the last newline was cut off.
  for (const line of text.split('\n').slice(0, -1)) {
    const mount = parseLine(line);
    if (!mount) malformed++;
    // What is mounted over another filesystem is the one that can be seen.
    else if (LOCAL_TYPES.has(mount.type) && !NOT_SHOWN.test(mount.mountPoint))
      byPath.set(mount.mountPoint, mount);
  }
  const numbers = new Set<string>();
  const mounts = [...byPath.values()].filter(({ number }) => !numbers.has(number) && numbers.add(number));
  return { mounts: mounts.slice(0, MAX_MOUNTS), malformed };
}

function parseLine(line: string): (LocalMount & { readonly number: string }) | undefined {
  const fields = line.split(' ');
  const separator = fields.indexOf(SEPARATOR, 6);
  const [, , number = '', , mountPoint = '', options = ''] = fields;
  const [type, device, superOptions, ...more] = separator < 0 ? [] : fields.slice(separator + 1);
  if (type === undefined || device === undefined || superOptions === undefined || more.length > 0)
    return undefined;
  if (
    !/^\d+:\d+$/.test(number) ||
    !mountPoint.startsWith('/') ||
    !OPTIONS.test(options) ||
    !OPTIONS.test(superOptions)
  )
    return undefined;
  const readOnly = hasOption(options, 'ro') || hasOption(superOptions, 'ro');
  return { number, mountPoint: unescaped(mountPoint), device: unescaped(device), type, readOnly };
}

function hasOption(options: string, option: string): boolean {
  return options.split(',').includes(option);
}

/** `\040` is a space: the kernel writes blanks and backslashes in octal. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}
