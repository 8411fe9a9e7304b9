/** Labels that Prometheus' exporters give and what an alert of ours calls them. */
const FIELDS: Readonly<Record<string, string>> = {
  gpu: 'gpu',
  node: 'node',
  Hostname: 'node',
  hostname: 'node',
  instance: 'node',
  uuid: 'gpu_uuid',
  UUID: 'gpu_uuid',
  gpu_uuid: 'gpu_uuid',
  model: 'gpu_model',
  modelName: 'gpu_model',
  cluster: 'cluster',
  alertname: 'rule',
  severity: 'severity',
};
const FILTERS: Readonly<Record<string, string>> = {
  humanize: 'round',
  humanizePercentage: 'percent',
  humanizeDuration: 'duration',
  humanize1024: 'bytes',
};
const PRINTF = /^printf\s+"%\.?\d*[fdgv]%?%?"$/;

/** A template of Prometheus in our language; undefined where it says what ours cannot. */
export function translateTemplate(text: string): string | undefined {
  let failed = false;
  const made = text.replaceAll(/\{\{-?([\s\S]*?)-?\}\}/g, (_, inner: string) => {
    const found = translateAction(inner.trim());
    if (found === undefined) failed = true;
    return `{{ ${found ?? ''} }}`;
  });
  return failed || made.replaceAll(/\{\{ [^{}]+ \}\}/g, '').includes('{{') ? undefined : made;
}

function translateAction(action: string): string | undefined {
  const [subject = '', ...filters] = action.split('|').map((part) => part.trim());
  const printed = /^printf\s+"%\.?\d*[fdgv]%?%?"\s+\$value$/.test(subject);
  const label = /^\$labels\.(\w+)$/.exec(subject)?.[1] ?? /^index \$labels "(\w+)"$/.exec(subject)?.[1];
  if (label !== undefined) return filters.length > 0 ? undefined : (FIELDS[label] ?? `labels.${label}`);
  if (subject !== '$value' && !printed) return undefined;
  const [filter, ...more] = printed ? ['round', ...filters] : filters;
  if (more.length > 0) return undefined;
  if (filter === undefined) return 'value';
  const ours = filter === 'round' || PRINTF.test(filter) ? 'round' : FILTERS[filter];
  return ours === undefined ? undefined : `value | ${ours}`;
}
