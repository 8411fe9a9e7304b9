import type { Alert } from '#proto/gpufleet/alert/v1/alert_pb.ts';
import type { TimeSpec } from '../files/time-interval.ts';
import type { InhibitRule } from '../mute/inhibit-rules.ts';
import type { Template } from '../rules/annotations.ts';
import type { CommonSettings, RateLimit } from './receivers/receiver-kind.ts';

/** One way to people of one receiver, such as its second Slack channel. */
export interface EndpointSettings {
  /** `<receiver>:<kind>:<position>`: names what was sent to it over restarts. */
  readonly id: string;
  readonly receiver: string;
  readonly kind: string;
  readonly sendResolved: boolean;
  readonly rateLimit: RateLimit;
  /** Deadline of one try in milliseconds. */
  readonly timeoutMs: number;
  /** As the kind's schema has read them. */
  readonly settings: CommonSettings;
}

export interface Route {
  /** Stands for the route over restarts and changes of other routes. */
  readonly key: string;
  readonly receiver: string;
  readonly groupBy: readonly string[];
  readonly groupWaitMs: number;
  readonly groupIntervalMs: number;
  readonly repeatIntervalMs: number;
  readonly matches: (alert: Alert) => boolean;
  readonly continue: boolean;
  /** Silent within any of these. */
  readonly mutedIn: readonly (readonly TimeSpec[])[];
  /** Silent outside all of these, where there are any. */
  readonly activeIn: readonly (readonly TimeSpec[])[];
  readonly routes: readonly Route[];
}

export interface NotifySettings {
  /** Where the console is; empty where nobody said. */
  readonly link: string;
  readonly route: Route;
  readonly receivers: ReadonlyMap<string, readonly EndpointSettings[]>;
  /** Undefined where none is set: the built-in words. */
  readonly templates: { readonly title: Template | undefined; readonly text: Template | undefined };
  /** Those of the file, beside the shipped ones. */
  readonly inhibitRules: readonly InhibitRule[];
  readonly inhibitDefaults: boolean;
}
