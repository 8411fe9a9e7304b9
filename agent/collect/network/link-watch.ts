import type { Clock } from '#shared/model/clock.ts';
import type { EventType, FleetEvent } from '#shared/model/event.ts';
import type { Facts } from '../source-kind.ts';

/** What one read says of a link; undefined where it said nothing. */
export interface LinkSighting {
  /** Names it in events: { device: 'mlx5_0', port: '1', kind: 'infiniband' }. */
  readonly attributes: Readonly<Record<string, string>>;
  readonly up: boolean | undefined;
  /** A counter of the times that it went down, which sees those between two reads. */
  readonly downs: number | undefined;
  /** Bits a second while it is up. */
  readonly rate: number | undefined;
}

export interface FlapRule {
  readonly count: number;
  readonly windowMs: number;
}

interface LinkState {
  readonly attributes: Readonly<Record<string, string>>;
  up: boolean | undefined;
  downs: number | undefined;
  rate: number | undefined;
  /** The rate that it fell from, while it is below it. */
  fullRate: number | undefined;
  /** When it went down, at most as often as the rule asks for. */
  times: number[];
}

/** Between two collects there is one read; some dozens of links go down together when a switch does. */
const MAX_EVENTS = 256;

/**
 * Turns what reads say of links into events: down, up, slower, and flapping, which is gpud's rule (three times within
 * twelve hours; it counts only downs of half a minute and more, because it cannot see shorter ones). Whether a link
 * was up is remembered over restarts of the agent.
 */
export class LinkWatch {
  readonly #clock: Clock;
  readonly #facts: Facts;
  readonly #rule: FlapRule;
  readonly #links = new Map<string, LinkState>();
  #events: FleetEvent[] = [];

  constructor({
    clock,
    facts,
    rule,
  }: { readonly clock: Clock; readonly facts: Facts; readonly rule: FlapRule }) {
    this.#clock = clock;
    this.#facts = facts;
    this.#rule = rule;
  }

  /** `key` is the link's own for ever: `ib/mlx5_0/1`, `net/eth0`. */
  observe(key: string, sighting: LinkSighting): void {
    const link = this.#links.get(key) ?? this.#meet(key, sighting);
    const wentDown = link.up === true && sighting.up === false;
    const counted = link.downs === undefined ? 0 : Math.max(0, (sighting.downs ?? link.downs) - link.downs);
    if (wentDown) this.#raise('link_down', link, `${nameOf(link)} is down`);
    if (link.up === false && sighting.up === true) this.#raise('link_up', link, `${nameOf(link)} is up`);
    if (sighting.up !== undefined && sighting.up !== link.up)
      this.#facts.set(`link/${key}`, sighting.up ? 'up' : 'down');
    link.up = sighting.up ?? link.up;
    link.downs = sighting.downs ?? link.downs;
    this.#count(link, Math.max(counted, wentDown ? 1 : 0));
    if (link.up && sighting.rate !== undefined) this.#compareRate(link, sighting.rate);
  }

  /** Links whose key begins with `prefix` and is not among these went down with their device, and are forgotten. */
  keepKind(prefix: string, keys: ReadonlySet<string>): void {
    for (const [key, link] of this.#links) {
      if (!key.startsWith(prefix) || keys.has(key)) continue;
      this.#links.delete(key);
      if (link.up !== false) this.#raise('link_down', link, `${nameOf(link)} is gone`, { gone: 'true' });
      this.#facts.set(`link/${key}`, 'down');
    }
  }

  /** A link that is slower than it was or could be; `over`: no more. */
  degraded(
    attributes: LinkSighting['attributes'],
    what: string,
    was: string,
    now: string,
    over: boolean,
  ): void {
    const text = over ? `has its full ${what} again: ${now}` : `has lost ${what}: ${now} instead of ${was}`;
    this.#raise('link_degraded', { attributes }, `${nameOf({ attributes })} ${text}`, {
      what,
      was,
      now,
      over: String(over),
    });
  }

  takeEvents(): readonly FleetEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  #meet(key: string, { attributes }: LinkSighting): LinkState {
    const fact = this.#facts.get(`link/${key}`);
    const up = fact === undefined ? undefined : fact === 'up';
    const link: LinkState = {
      attributes,
      up,
      downs: undefined,
      rate: undefined,
      fullRate: undefined,
      times: [],
    };
    this.#links.set(key, link);
    return link;
  }

  #count(link: LinkState, downs: number): void {
    const { count, windowMs } = this.#rule;
    const now = this.#clock.now();
    for (let i = 0; i < Math.min(downs, count); i++) link.times.push(now);
    link.times = link.times.filter((time) => now - time < windowMs).slice(-count);
    if (downs === 0 || link.times.length < count) return;
    // Told once; the next count downs are the next event.
    link.times = [];
    const windowS = String(windowMs / 1000);
    this.#raise('link_flap', link, `${nameOf(link)} went down ${count} times within ${windowS} s`, {
      count: String(count),
      window_s: windowS,
    });
  }

  #compareRate(link: LinkState, rate: number): void {
    const before = link.fullRate ?? link.rate;
    link.rate = rate;
    if (before === undefined) return;
    if (rate < before && link.fullRate === undefined) {
      link.fullRate = before;
      this.degraded(link.attributes, 'rate', String(before), String(rate), false);
    } else if (rate >= before && link.fullRate !== undefined) {
      link.fullRate = undefined;
      this.degraded(link.attributes, 'rate', String(before), String(rate), true);
    }
  }

  #raise(type: EventType, { attributes }: Pick<LinkState, 'attributes'>, text: string, more = {}): void {
    if (this.#events.length >= MAX_EVENTS) this.#events.shift();
    this.#events.push({
      type,
      timestampMs: this.#clock.now(),
      gpu: '',
      gpuUuid: '',
      text,
      attributes: { ...attributes, ...more },
    });
  }
}

function nameOf({ attributes }: Pick<LinkState, 'attributes'>): string {
  const { device = '', port } = attributes;
  return port === undefined ? device : `${device} port ${port}`;
}
