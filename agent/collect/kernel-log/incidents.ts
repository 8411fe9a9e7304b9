import { SEVERITIES, worse, type XidSeverity } from '#shared/catalogue/xid.ts';
import type { Finding } from './finding.ts';

/** What one GPU or device has been saying of one cause. Kept across restarts, so its fields are plain. */
export interface Incident {
  /** Of the line that it began with, or that turned out worse. */
  readonly id: string;
  readonly pci: string;
  code: string;
  severity: XidSeverity;
  readonly beganMs: number;
  lastMs: number;
  /** What the driver asks for, once it did (Xid 154). */
  driver?: { readonly action: string; readonly severity: XidSeverity };
}

/** How a line belongs to an incident. */
export interface Membership {
  readonly incident: Incident;
  /** Code of the cause, where this line only follows it. */
  readonly follows?: string;
  /** Code that came before and is less bad, or only a consequence: this line is the cause from now on. */
  readonly escalates?: string;
  /** Code that this line takes back. */
  readonly cancels?: string;
}

/** Lines of one cause come within seconds; a driver retries for up to a minute. */
export const INCIDENT_GAP_MS = 60_000;
/** A device that goes on complaining has a new incident every ten minutes. */
export const INCIDENT_MAX_MS = 600_000;
/** More devices than a node has. The one that has been silent longest makes room. */
export const MAX_INCIDENTS = 128;

/** Consequences by definition: where one comes first, its cause takes over as soon as it is there. */
const NEVER_FIRST = new Set([
  '43',
  '45',
  '154',
  '160',
  '171',
  '172',
  'off_the_bus',
  'address',
  'begin',
  'succeeded',
]);
/** What others on the node say when a GPU died: jobs that spanned them are cleaned up, links to it go down. */
const ECHOES = new Set(['43', '45', '74', '144', '145', '146', '147', '148', '149', '150', '155']);
/** The GPU is gone or its memory cannot be trusted: its peers notice. */
const FELT_BY_PEERS = new Set(['79', 'off_the_bus', '95', '119', '120', '158', '167']);
const CANCELS: Readonly<Record<string, string>> = { 162: '163' };

/**
 * Groups what one GPU says within a time into one incident, so that an Xid 79 and the dozen 45s after it are one.
 * Times are milliseconds since boot: they never step.
 */
export class Incidents {
  readonly #open = new Map<string, Incident>();
  /** The newest incident that peers may feel. */
  #felt: Incident | undefined;

  get all(): readonly Incident[] {
    return [...this.#open.values()];
  }

  restore(incidents: readonly Incident[]): void {
    for (const one of incidents.slice(0, MAX_INCIDENTS)) {
      this.#open.set(one.pci, { ...one });
      if (FELT_BY_PEERS.has(one.code)) this.#felt = this.#open.get(one.pci);
    }
  }

  /** `id`: of the line. */
  join(finding: Finding, id: string, atMs: number): Membership | undefined {
    const { pci, code, severity } = finding;
    if (pci === undefined) return undefined;
    const own = this.#current(this.#open.get(pci), atMs);
    const felt = own === undefined && isEcho(finding) ? this.#current(this.#felt, atMs) : undefined;
    if (felt !== undefined) return { incident: felt, follows: felt.code };
    if (own === undefined)
      return { incident: this.#begin({ id, pci, code, severity, beganMs: atMs, lastMs: atMs }, finding) };
    own.lastMs = Math.max(own.lastMs, atMs);
    const before = own.code;
    if (CANCELS[code] === before) return { incident: own, cancels: before };
    if (finding.asks !== undefined) this.#ask(own, finding, finding.asks);
    const foundCause = NEVER_FIRST.has(before);
    if (NEVER_FIRST.has(code) || !(foundCause || isWorse(severity, own.severity)))
      return { incident: own, follows: before };
    // What the driver asked for was about the lesser cause.
    if (!foundCause) delete own.driver;
    own.code = code;
    own.severity = severity;
    if (FELT_BY_PEERS.has(code)) this.#felt = own;
    return { incident: own, escalates: before };
  }

  #begin(incident: Incident, finding: Finding): Incident {
    this.#open.delete(incident.pci);
    if (this.#open.size >= MAX_INCIDENTS) this.#open.delete(this.#open.keys().next().value!);
    this.#open.set(incident.pci, incident);
    if (FELT_BY_PEERS.has(incident.code)) this.#felt = incident;
    if (finding.asks !== undefined) this.#ask(incident, finding, finding.asks);
    return incident;
  }

  /** What is bad stays as bad as the table says; the driver may only raise it. What to do, the driver decides. */
  #ask(incident: Incident, { severity }: Finding, action: string): void {
    if (action === 'none') {
      delete incident.driver;
      this.#open.delete(incident.pci);
      if (this.#felt === incident) this.#felt = undefined;
    } else incident.driver = { action, severity: worse(incident.severity, severity) };
  }

  #current(incident: Incident | undefined, atMs: number): Incident | undefined {
    if (incident === undefined) return undefined;
    const over = atMs - incident.lastMs > INCIDENT_GAP_MS || atMs - incident.beganMs > INCIDENT_MAX_MS;
    return over ? undefined : incident;
  }
}

function isEcho({ type, code }: Finding): boolean {
  return type === 'sxid' || (type === 'xid' && ECHOES.has(code));
}

function isWorse(a: XidSeverity, b: XidSeverity): boolean {
  return SEVERITIES.indexOf(a) > SEVERITIES.indexOf(b);
}
