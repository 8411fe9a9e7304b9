import type { Notification } from '../notification.ts';
import { printable } from './short-text.ts';

type Headed = Pick<Notification, 'title' | 'status' | 'severity'>;

/** RESOLVED, or how bad it is: WARNING. */
export function headWord({ status, severity }: Headed): string {
  return status === 'resolved' ? 'RESOLVED' : severity.toUpperCase();
}

/** The title on one line, which begins with how bad it is; a template may have put that there already. */
export function headline(notification: Headed): string {
  const title = printable(notification.title);
  const word = headWord(notification);
  return title.startsWith(word) ? title : `${word}: ${title}`;
}

/** The title on one line for where the word stands beside it. */
export function bareTitle(notification: Headed): string {
  const title = printable(notification.title);
  const word = headWord(notification);
  return title.startsWith(word) ? title.slice(word.length).replace(/^[\s:]+/, '') || title : title;
}
