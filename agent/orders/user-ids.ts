import { readFile } from 'node:fs/promises';

/** Numbers of a local user, from a file such as /etc/passwd; undefined where it has none. Throws where it cannot be read. */
export async function userIds(
  passwd: string,
  user: string,
): Promise<{ readonly uid: number; readonly gid: number } | undefined> {
  for (const line of (await readFile(passwd, 'utf8')).split('\n')) {
    const [name, , uid = '', gid = ''] = line.split(':');
    if (name === user && /^\d+$/.test(uid) && /^\d+$/.test(gid))
      return { uid: Number(uid), gid: Number(gid) };
  }
  return undefined;
}
