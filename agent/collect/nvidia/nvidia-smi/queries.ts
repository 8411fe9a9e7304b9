import type { SmiQuery } from './collector.ts';
import { parseCsvReport } from './csv-report.ts';
import { chooseQueryFields, parseQueryHelp } from './query-fields.ts';
import { parseXmlReport } from './xml-report.ts';

/** What nvidia-smi says of a field that the driver does not have: the driver was changed under us. */
const UNKNOWN_FIELD = 'is not a valid field';

/** `--query-gpu` with the fields that this driver has: it is asked once, and again when it is another driver. */
export function gpuQuery(withDetail: boolean): SmiQuery {
  let fields: string | undefined;
  let driver: string | undefined;
  return {
    what: 'query-gpu',
    async read(session, signal) {
      fields ??= chooseQueryFields(
        parseQueryHelp(await session.run(signal, ['--help-query-gpu'])),
        withDetail,
      ).join();
      const output = await session.run(signal, [`--query-gpu=${fields}`, '--format=csv,nounits']);
      if (output.includes(UNKNOWN_FIELD)) fields = undefined;
      const report = parseCsvReport(output);
      const now = report.gpus[0]?.facts.driver_version;
      if (driver !== undefined && now !== undefined && now !== driver) fields = undefined;
      driver = now ?? driver;
      if (report.malformed === 0) session.noteIndices(report.gpus);
      return report;
    },
  };
}

/** The long report. */
export function longReport(): SmiQuery {
  return {
    what: '-q -x',
    async read(session, signal) {
      const output = await session.run(signal, ['-q', '-x']);
      return parseXmlReport(output, (uuid) => session.indexOf(uuid));
    },
  };
}
