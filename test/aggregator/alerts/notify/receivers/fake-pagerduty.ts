import type { ScriptedAnswer, SeenRequest } from './scripted-server.ts';

/**
 * PagerDuty's Events API v2 as its documentation describes it ("Send an event to PagerDuty", the events-v2 schema of
 * PagerDuty/api-schema): required fields, enumerations, lengths, 512 KB. No PagerDuty was asked.
 */
type Json = Readonly<Record<string, unknown>>;

const TOP = new Set([
  ...['routing_key', 'event_action', 'dedup_key', 'payload', 'images', 'links', 'client', 'client_url'],
]);
const PAYLOAD = new Set([
  ...['summary', 'source', 'severity', 'timestamp', 'component', 'group', 'class', 'custom_details'],
]);

export function pagerDutyFaults(body: string): string[] {
  const faults: string[] = [];
  if (Buffer.byteLength(body) > 512 * 1_000) faults.push('larger than 512 KB');
  const event = JSON.parse(body) as Json;
  for (const name of Object.keys(event)) if (!TOP.has(name)) faults.push(`unknown field ${name}`);
  if (String(event.routing_key).length !== 32)
    faults.push("Length of 'routing_key' is incorrect (should be 32 characters)");
  if (!['trigger', 'acknowledge', 'resolve'].includes(String(event.event_action)))
    faults.push('event_action');
  if (typeof event.dedup_key !== 'string' || event.dedup_key.length > 255) faults.push('dedup_key');
  for (const link of (event.links ?? []) as Json[])
    if (!/^https?:/.test(String(link.href)) || typeof link.text !== 'string') faults.push('links');
  payloadFaults(event.payload as Json, faults);
  return faults;
}

function payloadFaults(payload: Json, faults: string[]): void {
  for (const name of Object.keys(payload))
    if (!PAYLOAD.has(name)) faults.push(`unknown field payload.${name}`);
  const { summary, source, severity, timestamp, custom_details } = payload;
  if (typeof summary !== 'string' || summary === '' || summary.length > 1_024) faults.push('payload.summary');
  if (typeof source !== 'string' || source === '') faults.push('payload.source');
  if (!['critical', 'error', 'warning', 'info'].includes(String(severity))) faults.push('payload.severity');
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(String(timestamp))) faults.push('payload.timestamp');
  if (typeof custom_details !== 'object' || Array.isArray(custom_details))
    faults.push('payload.custom_details');
  for (const name of ['component', 'group', 'class'])
    if (name in payload && typeof payload[name] !== 'string') faults.push(`payload.${name}`);
}

/** 202 to what is right, 400 with the reasons to what is not. */
export function pagerDutyAnswer({ path, body }: SeenRequest): ScriptedAnswer {
  if (path !== '/v2/enqueue') return { status: 404 };
  const errors = pagerDutyFaults(body);
  if (errors.length > 0)
    return {
      status: 400,
      body: JSON.stringify({ status: 'invalid event', message: 'Event object is invalid', errors }),
    };
  const { dedup_key } = JSON.parse(body) as Json;
  return { status: 202, body: JSON.stringify({ status: 'success', message: 'Event processed', dedup_key }) };
}
