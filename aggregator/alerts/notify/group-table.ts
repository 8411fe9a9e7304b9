import { createHash } from 'node:crypto';
import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import { AlertGroup, type GroupIdentity, levelOf } from './alert-group.ts';
import type { Route } from './notify-settings.ts';
import { groupLabelsOf } from './routing.ts';
import type { SentRecord } from './sent-record.ts';
import { STORM_KEY } from './storm-key.ts';

/** Groups of one endpoint; alerts of further ones share one group for each route. */
const MAX_GROUPS = 50_000;

/** The groups of one endpoint, and which alert is in which. */
export class GroupTable {
  readonly #groups = new Map<string, AlertGroup>();
  /** By route and values of the labels, as hashing them for each alert takes longer than all else. */
  readonly #byValues = new Map<string, AlertGroup>();
  /** The groups that a firing alert is in: one for most. */
  readonly #placed = new Map<string, readonly AlertGroup[]>();

  get(key: string): AlertGroup | undefined {
    return this.#groups.get(key);
  }

  values(): Iterable<AlertGroup> {
    return this.#groups.values();
  }

  delete(group: AlertGroup): void {
    this.#groups.delete(group.identity.key);
    if (group.route !== undefined) this.#byValues.delete(valuesOf(group.route, group.identity.labels));
  }

  /** As the books have it. */
  restore(record: SentRecord, routeOf: (key: string) => Route | undefined): AlertGroup {
    const group = this.#add(record.identity, routeOf(record.identity.key.split('-')[0]!));
    group.told = record.told;
    group.lastMs = record.atMs;
    group.storm = record.storm;
    group.remind();
    return group;
  }

  /** Puts an alert where its routes lead, and takes it from where they do not lead any more; returns the groups. */
  place(alert: Alert, routes: readonly Route[], nowMs: number): AlertGroup[] {
    const before = this.#placed.get(alert.id) ?? [];
    if (before.length === 0 && routes.length === 0) return [];
    const firing = levelOf(alert) > 0;
    const groups = routes.flatMap((route) => this.#groupFor(route, alert, firing) ?? []);
    const left = before.filter((group) => !groups.includes(group));
    for (const group of left) group.leave(alert, nowMs);
    for (const group of groups) group.take(alert, nowMs);
    if (firing && groups.length > 0) this.#placed.set(alert.id, groups);
    else this.#placed.delete(alert.id);
    return [...left, ...groups];
  }

  /** Those that one of the alerts is in; or, as one that has ended is in none any more, that were told of it. */
  of(ids: ReadonlySet<string>): Iterable<AlertGroup> {
    const found = new Set([...ids].flatMap((id) => this.#placed.get(id) ?? []));
    for (const group of this.#groups.values())
      for (const id of group.told.keys())
        if (ids.has(id)) {
          found.add(group);
          break;
        }
    return found;
  }

  /** The group that stands for a storm. */
  get storm(): AlertGroup | undefined {
    return this.#groups.get(STORM_KEY);
  }

  addStorm(): AlertGroup {
    return this.storm ?? this.#add({ key: STORM_KEY, labels: {}, cluster: '' }, undefined);
  }

  #groupFor(route: Route, alert: Alert, firing: boolean): AlertGroup | undefined {
    const labels = groupLabelsOf(route, alert);
    const values = valuesOf(route, labels);
    const found = this.#byValues.get(values);
    if (found !== undefined) return found;
    const identity = identityOf(route, labels);
    const known = this.#groups.get(identity.key);
    if (known !== undefined) {
      this.#byValues.set(values, known);
      return known;
    }
    const shared = this.#groups.size < MAX_GROUPS ? identity : identityOf(route, {});
    const group = this.#groups.get(shared.key) ?? (firing ? this.#add(shared, route) : undefined);
    // The shared group is found by its hash: its alerts' values would add up without an end.
    if (group !== undefined && shared === identity) this.#byValues.set(values, group);
    return group;
  }

  #add(identity: GroupIdentity, route: Route | undefined): AlertGroup {
    const group = new AlertGroup(identity, route);
    this.#groups.set(identity.key, group);
    return group;
  }
}

/** Of one route the names of the labels are always the same, but for `...`: then they count too. */
function valuesOf(route: Route, labels: Readonly<Record<string, string>>): string {
  let text = route.key;
  for (const name in labels) text += `\0${name}\0${labels[name]}`;
  return text;
}

function identityOf(route: Route, labels: Readonly<Record<string, string>>): GroupIdentity {
  const hash = createHash('sha256').update(JSON.stringify(labels)).digest('hex').slice(0, 24);
  return { key: `${route.key}-${hash}`, labels, cluster: labels.cluster ?? '' };
}
