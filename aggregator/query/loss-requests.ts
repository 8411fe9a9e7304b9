import { create } from '@bufbuild/protobuf';
import { type Timestamp, timestampMs } from '@bufbuild/protobuf/wkt';
import {
  type ListDeadLettersResponse,
  ListDeadLettersResponseSchema,
  type ListLossesResponse,
  ListLossesResponseSchema,
  type ReplayDeadLettersResponse,
  ReplayDeadLettersResponseSchema,
  type ReplayResponse,
  ReplayResponseSchema,
} from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { FleetError } from '#shared/errors/fleet-error.ts';
import type { FleetView, LossQuery } from './fleet-view.ts';
import { pageOf } from './paging.ts';

/** What gRPC and REST both ask of the loss ledger, the replays and the dead letters. */

const MAX_COMMENT = 1024;
/** Longest node name, as of DNS. */
const MAX_NODE = 253;
/** Letters that one call names: 4 MiB of a message hold many more. */
const MAX_IDS = 1000;

interface PageOptions {
  readonly pageSize: number;
  readonly pageToken: string;
}

export function listLosses(
  view: FleetView,
  query: LossQuery,
  { pageSize, pageToken }: PageOptions,
): ListLossesResponse {
  requireOrder('list losses', query.fromMs, query.toMs);
  const { rows, samples } = view.losses(query);
  const page = pageOf(rows, ({ key }) => key, pageSize, pageToken);
  return create(ListLossesResponseSchema, {
    ...page,
    losses: page.rows.map((row) => row.message()),
    samples: BigInt(samples),
  });
}

/** `fromMs` undefined: it was not said, which is refused: a replay of everything must be meant. */
export async function requestReplay(
  view: FleetView,
  order: {
    readonly fromMs: number | undefined;
    readonly toMs: number | undefined;
    readonly node: string;
    readonly comment: string;
  },
): Promise<ReplayResponse> {
  const { fromMs, toMs, node, comment } = order;
  if (fromMs === undefined)
    throw new FleetError(
      'invalid_input',
      'Cannot replay: from is missing, the time from which to send again',
    );
  requireOrder('replay', fromMs, toMs);
  if (comment.length > MAX_COMMENT)
    throw new FleetError(
      'invalid_input',
      `Cannot replay: the comment is longer than ${MAX_COMMENT} characters`,
    );
  if (node.length > MAX_NODE)
    throw new FleetError('invalid_input', `Cannot replay: a node name has at most ${MAX_NODE} characters`);
  return create(ReplayResponseSchema, await view.replay({ fromMs, toMs: toMs ?? 0, node, comment }));
}

export function listDeadLetters(
  view: FleetView,
  node: string,
  { pageSize, pageToken }: PageOptions,
): ListDeadLettersResponse {
  const page = pageOf(view.deadLetters(node), ({ key }) => key, pageSize, pageToken);
  return create(ListDeadLettersResponseSchema, {
    ...page,
    deadLetters: page.rows.map((row) => row.message()),
  });
}

export async function replayDeadLetters(
  view: FleetView,
  ids: readonly string[],
): Promise<ReplayDeadLettersResponse> {
  if (ids.length > MAX_IDS)
    throw new FleetError(
      'invalid_input',
      `Cannot replay: name at most ${MAX_IDS} dead letters, or none for all`,
    );
  return create(ReplayDeadLettersResponseSchema, await view.replayDeadLetters(ids));
}

/** Unix ms, or undefined where there is none. Throws `invalid_input` for what no Timestamp may hold. */
export function timeOf(time: Timestamp | undefined, field: string): number | undefined {
  if (time === undefined) return undefined;
  const ms = timestampMs(time);
  if (ms < 0 || ms > MAX_TIME_MS)
    throw new FleetError('invalid_input', `Cannot use ${field}: it must lie between the years 1970 and 9999`);
  return ms;
}

const MAX_TIME_MS = 253_402_300_799_999;
const RFC_3339 = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i;

/** RFC 3339, or Unix seconds. Throws `invalid_input`. */
export function parseTime(text: string, field: string): number {
  const ms = RFC_3339.test(text)
    ? Date.parse(text)
    : /^\d{1,12}(\.\d{1,9})?$/.test(text)
      ? Math.round(Number(text) * 1000)
      : Number.NaN;
  if (!(ms >= 0 && ms <= MAX_TIME_MS))
    throw new FleetError(
      'invalid_input',
      `Cannot use ${field}: it must be a time such as 2026-01-31T12:00:00Z or Unix seconds, and is "${text.slice(0, 50)}"`,
    );
  return ms;
}

function requireOrder(action: string, fromMs: number | undefined, toMs: number | undefined): void {
  if (fromMs !== undefined && toMs !== undefined && fromMs > toMs)
    throw new FleetError('invalid_input', `Cannot ${action}: from is later than to`);
}
