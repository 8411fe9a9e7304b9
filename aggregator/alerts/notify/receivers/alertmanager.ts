import * as v from 'valibot';
import { duration } from '#shared/config/values.ts';
import { HttpCaller, httpSettings, plainUrl } from '../../http/http-caller.ts';
import { credentialSettings, HttpCredentials, oneCredential } from '../../http/http-credentials.ts';
import { warnUnreadable } from '../../http/secret-file.ts';
import type { Delivery, Notification, Receiver } from '../notification.ts';
import { ended, type NamedAlert, type PostableAlert, postableAlerts } from './alertmanager-alerts.ts';
import { guarded } from './guarded-receiver.ts';
import { commonSettings, type ReceiverDeps, type ReceiverKind } from './receiver-kind.ts';
import { RecentMap } from './recent-map.ts';

/** Prometheus' own factor: an alert ends after four refreshes that did not come (`sendAlerts` in cmd/prometheus). */
const REFRESHES_UNTIL_END = 4;
/** Alerts whose last labels are remembered; beyond that, what had other labels ends by itself. */
const MAX_REMEMBERED = 10_000;

const schema = v.pipe(
  v.strictObject({
    ...commonSettings,
    ...httpSettings,
    ...credentialSettings,
    /** Of every replica: each is told everything, as Alertmanager's documentation asks of its clients. */
    urls: v.pipe(
      v.array(plainUrl, 'must be a list of URLs'),
      v.minLength(1, 'must be at least one URL'),
      v.maxLength(10, 'must be at most 10 URLs'),
    ),
    /** How often firing alerts are sent again; Prometheus' `resend-delay` is a minute. */
    refresh: v.optional(duration(1_000, 3_600_000), '1m'),
  }),
  v.check((settings) => oneCredential(settings), 'give basic_auth or bearer_token_file, not both'),
);

async function open(settings: v.InferOutput<typeof schema>, deps: ReceiverDeps): Promise<Receiver> {
  const { clock } = deps;
  const caller = new HttpCaller(settings, clock);
  const credentials = new HttpCredentials(settings);
  warnUnreadable([credentials.file], deps);
  const urls = settings.urls.map((url) => `${url.replace(/\/+$/, '')}/api/v2/alerts`);
  const standing = new Standing();
  return guarded('alertmanager', {
    refreshMs: settings.refresh,
    async send(notification: Notification, signal) {
      const now = clock.now();
      const alerts = postableAlerts(notification, now, now + REFRESHES_UNTIL_END * settings.refresh);
      if (alerts.length === 0) return { outcome: 'sent' };
      const body = JSON.stringify([
        ...standing.renamed(alerts).map((alert) => ended(alert, now)),
        ...alerts.map(({ alert }) => alert),
      ]);
      const authorization = credentials.authorization();
      const posts = urls.map((url) => caller.post({ url, body, signal, ...authorization }));
      const delivery = await firstSent(posts.map(async (post) => (await post).delivery));
      if (delivery.outcome === 'sent') standing.note(alerts);
      return delivery;
    },
    close: () => caller.close(),
  });
}

/**
 * What each firing alert was called when it was last sent. To Alertmanager an alert is its labels: one that becomes
 * critical is another one there, and the warning must be ended.
 */
class Standing {
  readonly #alerts = new RecentMap<PostableAlert>(MAX_REMEMBERED);

  renamed(alerts: readonly NamedAlert[]): PostableAlert[] {
    return alerts.flatMap(({ id, alert }) => {
      const before = this.#alerts.get(id);
      return before && identity(before) !== identity(alert) ? [before] : [];
    });
  }

  note(alerts: readonly NamedAlert[]): void {
    for (const { id, firing, alert } of alerts) {
      if (firing) this.#alerts.set(id, alert);
      else this.#alerts.delete(id);
    }
  }
}

function identity({ labels }: PostableAlert): string {
  return JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * One replica that took it tells the others: a dead one must neither fail nor delay what a living one has. Where none
 * took it, another try is worth it if it is for any.
 */
async function firstSent(deliveries: readonly Promise<Delivery>[]): Promise<Delivery> {
  try {
    return await Promise.any(deliveries.map(sentOrThrow));
  } catch {
    const all = await Promise.all(deliveries);
    return all.find(({ outcome }) => outcome === 'retry') ?? all[0]!;
  }
}

async function sentOrThrow(sending: Promise<Delivery>): Promise<Delivery> {
  const delivery = await sending;
  if (delivery.outcome !== 'sent') throw new Error(delivery.why);
  return delivery;
}

/** Alertmanager's API v2, for those who keep it: its routes, silences and receivers see our alerts. */
export const ALERTMANAGER: ReceiverKind<v.InferOutput<typeof schema>> = { schema, open };
