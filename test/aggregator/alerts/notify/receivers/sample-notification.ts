import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { Notification } from '../../../../../aggregator/alerts/notify/notification.ts';

/** 2026-01-02T03:04:05Z */
export const AT = Date.UTC(2026, 0, 2, 3, 4, 5);

/** Everything that a label, a node's name or a rule's text may bring to break a message. */
export const HOSTILE = [
  '"quotes" and \'single\' and `ticks` and \\ and {{ braces }}',
  'line\nbreak\r\nBcc: everyone@example.org\r\n\r\nbody',
  '🔥 émoji ‮ \u2028 🏴‍☠️',
  '<script>alert(1)</script><!channel> <@U1|x> &amp; *bold*',
  'NUL \0 and bell \u0007 and escape \u001b[31m',
  `${'x'.repeat(4_095)}🔥`,
  '\ud800 half a pair',
] as const;

interface AlertParts {
  readonly id?: string;
  readonly node?: string;
  readonly gpu?: string;
  readonly state?: AlertState;
  readonly severity?: Severity;
  readonly summary?: string;
  readonly labels?: Record<string, string>;
  readonly annotations?: Record<string, string>;
  /** Unix ms. */
  readonly firedAtMs?: number;
  readonly resolvedAtMs?: number;
}

export function sampleAlert(parts: AlertParts = {}): Alert {
  const { firedAtMs = AT, resolvedAtMs, state = AlertState.FIRING, ...rest } = parts;
  const gpu = parts.gpu ?? '3';
  const node = parts.node ?? 'gpu-017';
  return create(AlertSchema, {
    ...{ id: `${node}-${gpu}`, rule: 'gpu-too-hot', cluster: 'alpha', gpuUuid: `GPU-${node}-${gpu}` },
    ...{ gpuModel: 'NVIDIA H100', severity: Severity.WARNING, value: 91.5, threshold: 90, transition: 1n },
    ...{ summary: 'GPU 3 is at 91 °C', labels: { pool: 'train', rack: 'r7' } },
    annotations: { description: 'It is hot.', runbook_url: 'https://runbooks.example/hot' },
    startedAt: timestampFromMs(firedAtMs - 60_000),
    firedAt: timestampFromMs(firedAtMs),
    ...(resolvedAtMs !== undefined && { resolvedAt: timestampFromMs(resolvedAtMs) }),
    ...rest,
    ...{ node, gpu, state },
  });
}

export function sampleNotification(parts: Partial<Notification> = {}): Notification {
  const firing = parts.firing ?? (parts.status === 'resolved' ? [] : [sampleAlert()]);
  const resolved = parts.resolved ?? [];
  return {
    ...{
      id: 'notification-1',
      groupKey: '0123456789abcdef',
      groupLabels: { cluster: 'alpha', rule: 'gpu-too-hot' },
    },
    ...{ cluster: 'alpha', status: 'firing', severity: 'warning', kind: 'news', flaps: 0 },
    ...{ firingCount: firing.length, resolvedCount: resolved.length },
    ...{ title: '1 GPU is too hot in alpha', text: 'gpu-017 GPU 3: 91 °C\nsince 03:04' },
    ...{ link: 'https://gpufleet.example/alerts?group=1', atMs: AT },
    ...parts,
    ...{ firing, resolved },
  };
}

/** As many alerts as a notification may carry, and more behind them. */
export function fullNotification(): Notification {
  const alerts = (state: AlertState, from: number): Alert[] =>
    Array.from({ length: 50 }, (_, index) => {
      const node = `gpu-${String(from + index).padStart(3, '0')}`;
      return sampleAlert({ node, state, ...(state === AlertState.RESOLVED && { resolvedAtMs: AT + 1_000 }) });
    });
  const firing = alerts(AlertState.FIRING, 0);
  const resolved = alerts(AlertState.RESOLVED, 100);
  const text = firing
    .map(({ node }) => `${node} GPU 3: 91 °C & rising`)
    .join('\n')
    .padEnd(4_000, '<&>\n')
    .slice(0, 4_000);
  return sampleNotification({ firing, resolved, firingCount: 700, resolvedCount: 60, text });
}

/** Every text of it hostile, the group's labels too. */
export function hostileNotification(): Notification {
  const all = HOSTILE.join(' ');
  const firing = HOSTILE.map((text, index) =>
    sampleAlert({
      id: `hostile-${index}`,
      gpu: String(index),
      node: text,
      summary: text,
      labels: { hostile: text, 'hostile name': text, 'bad-name.2': 'x', '2nd': 'y', ünï: 'z' },
      annotations: { description: text, runbook_url: 'javascript:alert(1)' },
    }),
  );
  return sampleNotification({
    firing,
    id: 'id\r\nX-Injected: 1',
    groupLabels: { rule: all, node: HOSTILE[1] },
    title: HOSTILE[1] + HOSTILE[3],
    text: all.slice(0, 4_000),
    link: 'javascript:alert(1)',
  });
}
