import { parentPort } from 'node:worker_threads';
import type { FleetPart } from './fleet-plan.ts';
import { watchPart } from './watch-part.ts';

parentPort!.on('message', (part: FleetPart) => {
  void watchPart(part).then((result) => parentPort!.postMessage(result));
});
