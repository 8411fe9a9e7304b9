import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  AuditEntrySchema,
  type AuditEntry as AuditMessage,
  type NotificationInfo,
  NotificationInfoSchema,
  NotificationState,
  type RuleInfo,
  RuleInfoSchema,
  type Silence as SilenceMessage,
  SilenceSchema,
  SilenceState,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { Clock } from '#shared/model/clock.ts';
import { actionMessage, stateOf as actionStateOf } from './alerts/actions/action-message.ts';
import type { Actions } from './alerts/actions/actions.ts';
import type { Alerting } from './alerts/alerting.ts';
import type { AuditEntry, AuditFact } from './alerts/audit/audit-entry.ts';
import { parseMatcher, showMatcher } from './alerts/mute/matchers.ts';
import { type Silence, stateOf } from './alerts/mute/silence.ts';
import type { NotificationRecord } from './alerts/notify/notification-record.ts';
import type { Rule } from './alerts/rules/rules.ts';
import type { AlertAccess } from './fleet-view.ts';
import type { AlertingView } from './query/alerting-view.ts';

const SEVERITIES = { info: Severity.INFO, warning: Severity.WARNING, critical: Severity.CRITICAL } as const;
const SILENCE_STATES = {
  pending: SilenceState.PENDING,
  active: SilenceState.ACTIVE,
  expired: SilenceState.EXPIRED,
} as const;
const NOTIFICATION_STATES = {
  waiting: NotificationState.WAITING,
  sent: NotificationState.SENT,
  dead: NotificationState.DEAD,
} as const;
/** What is done about alerts as one answer, and every order of an operator in the audit log. */
function createAlertingView(alerting: Alerting, clock: Clock): AlertingView {
  const { engine, silences, rules, notifier, audit } = alerting;
  const shownSilences = (list: readonly Silence[]): SilenceMessage[] => {
    const counts = coverage(engine.alerts(), silences);
    return list.map((silence) => silenceMessage(silence, clock.now(), counts.get(silence.id) ?? 0));
  };
  const silenceOf = (silence: Silence): SilenceMessage => shownSilences([silence])[0]!;
  return {
    async acknowledge(id, comment, by) {
      const outcome = engine.acknowledge(id, by, comment, clock.now());
      if (outcome !== 'acknowledged') throw refused('acknowledge', id, outcome);
      return audited(alerting, id, 'alert.ack', comment, by, clock);
    },
    async withdrawAcknowledgement(id, by) {
      const outcome = engine.withdrawAcknowledgement(id);
      if (outcome === 'not_found') throw refused('withdraw the acknowledgement of', id, outcome);
      if (outcome === 'not_active')
        throw new FleetError('invalid_input', `Cannot withdraw: alert ${id} is not acknowledged`);
      return audited(alerting, id, 'alert.unack', '', by, clock);
    },
    silences: (expired) => shownSilences(silences.list(expired)).sort((a, b) => (a.id < b.id ? -1 : 1)),
    async setSilence({ id, matchers, startsAtMs, endsAtMs, comment }, by) {
      const parsed = matchers.map(parseMatcher);
      const start = startsAtMs === undefined ? {} : { startsAtMs };
      return silenceOf(await silences.set({ id, matchers: parsed, ...start, endsAtMs, comment, by }));
    },
    expireSilence: async (id, by) => silenceOf(await silences.expire(id, by)),
    rules() {
      const counts = countByRule(engine.alerts());
      const { rules: running, disabled } = rules.current;
      const infos = running.map((rule) => ruleInfo(rule, counts));
      for (const name of disabled) infos.push(create(RuleInfoSchema, { name }));
      infos.sort((a, b) => (a.name < b.name ? -1 : 1));
      return { rules: infos, loadedAtMs: rules.loadedAtMs, fault: rules.fault };
    },
    async reloadRules(by) {
      const outcome = await rules.reload();
      const result = outcome.ok ? 'done' : 'refused';
      await audit.write(factOf('rules.reload', outcome.ok ? '' : outcome.why, by, clock, { result }));
      if (!outcome.ok) throw new FleetError('invalid_input', outcome.why);
      const { added, changed, removed } = outcome;
      return {
        rules: rules.current.rules.length,
        ...{ added: added.length, changed: changed.length, removed: removed.length },
      };
    },
    notifications: ({ state, receiver }) =>
      notifier
        .list()
        .filter(
          (one) =>
            (receiver === '' || one.receiver === receiver) &&
            (state === NotificationState.UNSPECIFIED || NOTIFICATION_STATES[one.state] === state),
        )
        .map((one) => ({ key: newestFirst(one.atMs, one.id), message: () => notificationMessage(one) }))
        .sort((a, b) => (a.key < b.key ? -1 : 1)),
    resend: (ids, by) => notifier.resend(ids, by),
    actions({ state, node }) {
      const wanted = actionStateOf(state);
      const found =
        alerting.actions?.list({ ...(wanted && { state: wanted }), ...(node !== '' && { node }) }) ?? [];
      return found.map((one) => ({
        key: newestFirst(one.createdAtMs, one.id),
        message: () => actionMessage(one),
      }));
    },
    approve: async (id, comment, by) => actionMessage(await actionsOf(alerting).approve(id, by, comment)),
    reject: async (id, comment, by) => actionMessage(await actionsOf(alerting).reject(id, by, comment)),
    undo: async (id, comment, by) => actionMessage(await actionsOf(alerting).undo(id, by, comment)),
    async audit({ node, who, subject, fromMs, toMs }, size, cursor) {
      const found = await audit.list({
        ...(node !== '' && { node }),
        ...(who !== '' && { who }),
        ...(subject !== '' && { subject }),
        ...(fromMs !== undefined && { fromMs }),
        ...(toMs !== undefined && { toMs }),
        ...(cursor !== '' && { before: cursor }),
        limit: size,
      });
      const next = found.length === size ? found.at(-1)!.id : '';
      return { entries: found.map(auditMessage), next };
    },
  };
}

function actionsOf({ actions }: Alerting): Actions {
  if (actions) return actions;
  throw new FleetError('not_found', 'Cannot decide: no actions are configured (alerts.actions)');
}

/** Of an operator's order about an alert, once it is done. */
async function audited(
  alerting: Alerting,
  id: string,
  what: string,
  why: string,
  by: string,
  clock: Clock,
): Promise<Alert> {
  const alert = alerting.engine.get(id)!;
  const { cluster, node, gpu } = alert;
  await alerting.audit.write(factOf(what, why, by, clock, { cluster, node, gpu, subject: id }));
  return alerting.shown(alert);
}

/** Alerts with what is done about them, for FleetView. */
export function alertAccess(alerting: Alerting, clock: Clock): AlertAccess {
  return {
    engine: alerting.engine,
    view: createAlertingView(alerting, clock),
    shown: (alert) => alerting.shown(alert),
    async resolve(id, comment, by) {
      const outcome = alerting.engine.resolve(id, comment, clock.now());
      if (outcome === 'resolved' || outcome === 'suppressed')
        await audited(alerting, id, 'alert.resolve', comment, by, clock);
      return outcome;
    },
  };
}

function factOf(what: string, why: string, who: string, clock: Clock, more: Partial<AuditFact>): AuditFact {
  const nowhere = { cluster: '', node: '', gpu: '', subject: '', result: 'done' };
  return { atMs: clock.now(), who, what, why, ...nowhere, ...more };
}

function refused(action: string, id: string, outcome: string): FleetError {
  return outcome === 'not_found'
    ? new FleetError('not_found', `Cannot ${action} alert ${id.slice(0, 64)}: there is no such alert`)
    : new FleetError('invalid_input', `Cannot ${action} alert ${id}: it does not fire`);
}

/** How many firing alerts each silence covers, by its id. */
function coverage(alerts: Iterable<Alert>, silences: Alerting['silences']): Map<string, number> {
  const counts = new Map<string, number>();
  for (const alert of alerts) {
    if (alert.state !== AlertState.FIRING) continue;
    for (const id of silences.covering(alert)) counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

function silenceMessage(silence: Silence, nowMs: number, alerts: number): SilenceMessage {
  return create(SilenceSchema, {
    ...{
      id: silence.id,
      comment: silence.comment,
      createdBy: silence.by,
      fromMark: silence.fromMark,
      alerts,
    },
    matchers: silence.matchers.map(showMatcher),
    startsAt: timestampFromMs(silence.startsAtMs),
    endsAt: timestampFromMs(silence.endsAtMs),
    updatedAt: timestampFromMs(silence.updatedAtMs),
    state: SILENCE_STATES[stateOf(silence, nowMs)],
  });
}

interface RuleCounts {
  pending: number;
  firing: number;
}

function countByRule(alerts: Iterable<Alert>): Map<string, RuleCounts> {
  const counts = new Map<string, RuleCounts>();
  for (const { rule, state } of alerts) {
    if (state !== AlertState.FIRING && state !== AlertState.PENDING) continue;
    const of = counts.get(rule) ?? { pending: 0, firing: 0 };
    of[state === AlertState.FIRING ? 'firing' : 'pending']++;
    counts.set(rule, of);
  }
  return counts;
}

function ruleInfo({ name, kind, summary, annotations }: Rule, counts: Map<string, RuleCounts>): RuleInfo {
  const runbookUrl = annotations.runbook_url ?? '';
  return create(RuleInfoSchema, { name, kind, summary, runbookUrl, enabled: true, ...counts.get(name) });
}

function notificationMessage(record: NotificationRecord): NotificationInfo {
  const { id, receiver, kind, state, title, why, attempts, atMs, sentAtMs, firing, resolved, severity } =
    record;
  return create(NotificationInfoSchema, {
    ...{ id, receiver, kind, title, why, attempts, firing, resolved },
    ...{ state: NOTIFICATION_STATES[state], severity: SEVERITIES[severity], at: timestampFromMs(atMs) },
    ...(sentAtMs > 0 && { sentAt: timestampFromMs(sentAtMs) }),
  });
}

function auditMessage({ atMs, before, after, ...entry }: AuditEntry): AuditMessage {
  return create(AuditEntrySchema, {
    ...entry,
    at: timestampFromMs(atMs),
    before: before === undefined ? '' : JSON.stringify(before),
    after: after === undefined ? '' : JSON.stringify(after),
  });
}

/** A key that sorts the newest first. */
function newestFirst(atMs: number, id: string): string {
  return `${String(Number.MAX_SAFE_INTEGER - Math.trunc(atMs)).padStart(16, '0')} ${id}`;
}
