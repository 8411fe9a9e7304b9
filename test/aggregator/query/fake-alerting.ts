import { create } from '@bufbuild/protobuf';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type Alert, AlertSchema, AlertState, Severity } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import {
  type Action,
  ActionSchema,
  ActionState,
  AuditEntrySchema,
  NotificationInfoSchema,
  NotificationState,
  RuleInfoSchema,
  type Silence,
  SilenceSchema,
  SilenceState,
} from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { AlertingView, AuditQuery, SilenceOrder } from '../../../aggregator/query/alerting-view.ts';

const AT_MS = 1_767_225_600_000;
const AT = timestampFromMs(AT_MS);

/** One of each; `calls` says what was asked. Silences that are set can be read back. */
export class FakeAlerting implements AlertingView {
  readonly calls: unknown[] = [];
  readonly made = new Map<string, Silence>();
  /** Put into texts that people read. */
  noise = '';
  fault = '';

  async acknowledge(id: string, comment: string, by: string): Promise<Alert> {
    this.calls.push({ acknowledge: id, comment, by });
    if (id === 'none')
      throw new FleetError('not_found', `Cannot acknowledge alert ${id}: there is no such alert`);
    return create(AlertSchema, {
      ...{ id, state: AlertState.FIRING, severity: Severity.CRITICAL, node: 'node-1' },
      acknowledged: { by, comment, at: AT },
    });
  }

  async withdrawAcknowledgement(id: string, by: string): Promise<Alert> {
    this.calls.push({ withdraw: id, by });
    return create(AlertSchema, { id, state: AlertState.FIRING });
  }

  silences(expired: boolean): readonly Silence[] {
    this.calls.push({ silences: expired });
    return [...this.made.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async setSilence(order: SilenceOrder, by: string): Promise<Silence> {
    this.calls.push({ set: order, by });
    const { matchers, endsAtMs, comment } = order;
    if (matchers.includes('nonsense'))
      throw new FleetError('invalid_input', 'Cannot silence: matcher "nonsense" has no operator');
    const silence = create(SilenceSchema, {
      ...{ id: order.id || `s${this.made.size + 1}`, matchers: [...matchers], comment: comment + this.noise },
      ...{ createdBy: by, startsAt: AT, endsAt: timestampFromMs(endsAtMs), updatedAt: AT, alerts: 2 },
      state: SilenceState.ACTIVE,
    });
    this.made.set(silence.id, silence);
    return silence;
  }

  async expireSilence(id: string, by: string): Promise<Silence> {
    this.calls.push({ expire: id, by });
    const silence = this.made.get(id);
    if (!silence) throw new FleetError('not_found', `Cannot end silence ${id}: there is no such silence`);
    return { ...silence, state: SilenceState.EXPIRED };
  }

  rules() {
    const rule = { name: 'gpu-temperature', kind: 'threshold', summary: 'GPU temperature', enabled: true };
    const rules = [
      create(RuleInfoSchema, { ...rule, firing: 3 }),
      create(RuleInfoSchema, { ...rule, name: 'gpu-xid', kind: 'event', enabled: false }),
    ];
    return { rules, loadedAtMs: AT_MS, fault: this.fault };
  }

  async reloadRules(by: string) {
    this.calls.push({ reload: by });
    if (this.fault !== '') throw new FleetError('invalid_input', this.fault);
    return { rules: 2, added: 1, changed: 0, removed: 0 };
  }

  notifications({ state, receiver }: { state: NotificationState; receiver: string }) {
    this.calls.push({ notifications: state, receiver });
    return ['n1', 'n2'].map((id) => ({
      key: id,
      message: () =>
        create(NotificationInfoSchema, {
          ...{ id, receiver: 'on-call', kind: 'slack', state: NotificationState.DEAD, attempts: 3, at: AT },
          ...{ title: `[FIRING:2] gpu-critical${this.noise}`, why: 'channel_not_found' },
          severity: Severity.CRITICAL,
        }),
    }));
  }

  async resend(ids: readonly string[], by: string): Promise<number> {
    this.calls.push({ resend: [...ids], by });
    return ids.length || 2;
  }

  actions({ state, node }: { state: ActionState; node: string }) {
    this.calls.push({ actions: state, node });
    return ['a1', 'a2'].map((id) => ({ key: id, message: () => this.#action(id, ActionState.PENDING) }));
  }

  async approve(id: string, comment: string, by: string): Promise<Action> {
    return this.#decided('approve', id, comment, by, ActionState.PENDING);
  }

  async reject(id: string, comment: string, by: string): Promise<Action> {
    return this.#decided('reject', id, comment, by, ActionState.CANCELLED);
  }

  async undo(id: string, comment: string, by: string): Promise<Action> {
    return this.#decided('undo', id, comment, by, ActionState.UNDOING);
  }

  async audit(filter: AuditQuery, size: number, cursor: string) {
    this.calls.push({ audit: filter });
    const ids = ['e1', 'e2', 'e3'].filter((id) => id > cursor);
    const entries = ids.slice(0, size).map((id) =>
      create(AuditEntrySchema, {
        ...{ id, at: AT, who: 'mina', what: 'silence.set', why: `fan${this.noise}`, node: 'node-1' },
        ...{ subject: 's1', result: 'done', shard: 'agg-0' },
      }),
    );
    return { entries, next: ids.length > size ? entries.at(-1)!.id : '' };
  }

  #decided(decision: string, id: string, comment: string, by: string, state: ActionState): Action {
    this.calls.push({ [decision]: id, comment, by });
    if (id === 'none') throw new FleetError('not_found', `Cannot ${decision} action ${id}: there is none`);
    return this.#action(id, state);
  }

  #action(id: string, state: ActionState): Action {
    return create(ActionSchema, {
      ...{
        id,
        state,
        policy: 'drain-critical',
        node: 'node-1',
        gpu: '3',
        rule: 'gpu-critical',
        createdAt: AT,
      },
      ...{ reason: `Xid 79${this.noise}`, why: 'slurmctld does not answer' },
      steps: [
        { kind: 'mark', state: 'done', attempts: 1 },
        { kind: 'slurm', state: 'waiting' },
      ],
    });
  }
}
