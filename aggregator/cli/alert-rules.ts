import { type RuleInfo, RuleInfoSchema } from '#proto/gpufleet/alert/v1/alert_service_pb.ts';
import { plain } from './format.ts';
import { timeText } from './losses.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

/** `gpufleet rules`: what runs, and how much of it fires. */
export async function listRules({ alerting, output }: CommandContext): Promise<void> {
  let head: { loadedAt: string; fault: string } = { loadedAt: '', fault: '' };
  const found = await allPages(async (page) => {
    const { rules: rows, nextPageToken, loadedAt, fault } = await alerting.listRules(page);
    head = { loadedAt: timeText(loadedAt), fault };
    return { rows, nextPageToken };
  });
  if (output.json)
    return writeJson(output, {
      ...{ loaded_at: head.loadedAt, fault: head.fault },
      rules: found.map((one) => jsonOf(RuleInfoSchema, one)),
    });
  writeTable<RuleInfo>(
    output,
    [
      { title: 'RULE', cell: ({ name }) => name },
      { title: 'KIND', cell: ({ kind, enabled }) => (enabled ? kind : `${kind} (off)`.trim()) },
      { title: 'FIRING', cell: ({ firing }) => String(firing), align: 'right' },
      { title: 'PENDING', cell: ({ pending }) => String(pending), align: 'right' },
      { title: 'SUMMARY', cell: ({ summary }) => summary },
    ],
    found,
  );
  output.write(`loaded ${head.loadedAt}\n`);
  if (head.fault !== '') output.write(`the file on disk is not what runs: ${plain(head.fault)}\n`);
}

/** `gpufleet rules reload`. */
export async function reloadRules({ alerting, output }: CommandContext): Promise<void> {
  const { rules, added, changed, removed } = await alerting.reloadRules({});
  if (output.json) return writeJson(output, { rules, added, changed, removed });
  output.write(`${rules} rules run: ${added} new, ${changed} changed, ${removed} gone\n`);
}
