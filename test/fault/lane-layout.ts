import type { Fault } from './fault.ts';

export interface Item {
  readonly fault: Omit<Fault, 'atS' | 'target'>;
  /** Nothing else happens to the target for so long after it was undone. */
  readonly restS: number;
}

/** Each item in the gap that has most room left. */
export function layOutIn(
  gaps: readonly [from: number, to: number][],
  items: readonly Item[],
  random: () => number,
): Omit<Fault, 'target'>[] {
  const rooms = gaps.map(([from, to]) => ({ from, to, items: [] as Item[], leftS: to - from }));
  for (const item of items) {
    const widest = rooms.reduce((best, room) => (room.leftS > best.leftS ? room : best));
    widest.items.push(item);
    widest.leftS -= spanOf(item);
  }
  return rooms.flatMap(({ items: own, from, to }) => layOut(own, from, to, random));
}

export const spanOf = ({ fault, restS }: Item): number => fault.forS + restS;

/** In random order, with the time that is left over spread at random between them; what does not fit is left out. */
export function layOut(
  items: readonly Item[],
  fromS: number,
  toS: number,
  random: () => number,
): Omit<Fault, 'target'>[] {
  const fitting: Item[] = [];
  let usedS = 0;
  for (const item of items) {
    if (usedS + spanOf(item) > toS - fromS) continue;
    usedS += spanOf(item);
    fitting.push(item);
  }
  const slackS = toS - fromS - usedS;
  const cuts = fitting.map(() => random() * slackS).sort((a, b) => a - b);
  let spentS = 0;
  return shuffled(fitting, random).map((item, index) => {
    const atS = Math.round((fromS + cuts[index]! + spentS) * 10) / 10;
    spentS += spanOf(item);
    return { atS, ...item.fault };
  });
}

export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
