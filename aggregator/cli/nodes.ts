import { type Node, NodeSchema } from '#proto/gpufleet/fleet/v1/fleet_pb.ts';
import { age, nodeState, number } from './format.ts';
import { allPages, type CommandContext, jsonOf, writeJson, writeTable } from './output.ts';

/** `gpufleet nodes` */
export async function nodes(
  { client, output, now }: CommandContext,
  { limit }: { readonly limit?: number },
): Promise<void> {
  const found = await allPages(async (page) => {
    const { nodes: rows, nextPageToken } = await client.listNodes(page);
    return { rows, nextPageToken };
  }, limit);
  if (output.json) return writeJson(output, { nodes: found.map((node) => jsonOf(NodeSchema, node)) });
  writeTable<Node>(
    output,
    [
      { title: 'NAME', cell: (node) => node.name },
      { title: 'CLUSTER', cell: (node) => node.cluster, spare: 2 },
      {
        title: 'STATE',
        cell: (node) => nodeState(node.state),
        style: (node, text) => output.paint(nodeState(node.state) === 'up' ? 'green' : 'red', text),
      },
      { title: 'GPUS', cell: (node) => String(node.gpuCount), align: 'right' },
      { title: 'HEALTH', cell: (node) => number(node.minHealthScore), align: 'right' },
      { title: 'ALERTS', cell: (node) => String(node.firingAlerts), align: 'right' },
      { title: 'LAST SAMPLE', cell: (node) => age(node.lastSampleAt, now()), align: 'right' },
      { title: 'AGENT', cell: (node) => node.agentVersion, spare: 1 },
    ],
    found,
  );
}
