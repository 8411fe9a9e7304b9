import { type Command, Option } from 'commander';
import { ACTION_STATES, type ActionOptions, actions, decide } from './actions.ts';
import { listRules, reloadRules } from './alert-rules.ts';
import { acknowledge } from './alerts.ts';
import { type AuditOptions, audit } from './audit.ts';
import type { Tools } from './health-commands.ts';
import {
  NOTIFICATION_STATES,
  type NotificationOptions,
  notifications,
  resendNotifications,
} from './notifications.ts';
import { endSilence, type SilenceOptions, silence, silences } from './silences.ts';

/** The commands about what is done for alerts, of `gpufleet`. */
export function addAlertingCommands(program: Command, { run, moment, ending, count }: Tools): void {
  const limit = () => new Option('--limit <n>', 'at most so many rows').argParser(count);
  const why = () => new Option('--why <text>', 'the reason, for the record').makeOptionMandatory();

  program
    .command('ack')
    .description("say that you work on a firing alert (operator's token): no reminders until it fires anew")
    .argument('<id>')
    .option('--comment <text>', 'for those who look too', '')
    .option('--withdraw', 'take the acknowledgement back')
    .action((id: string, options: { comment: string; withdraw?: boolean }) =>
      run((context) => acknowledge(context, id, options)),
    );

  program
    .command('silences')
    .description('what nobody is notified of, by whom, and until when')
    .option('--expired', 'those that are over, too')
    .addOption(limit())
    .action((options: { expired?: boolean; limit?: number }) => run((context) => silences(context, options)));

  program
    .command('silence')
    .description("notify nobody of alerts that match (operator's token); they are recorded all the same")
    .argument('<matcher...>', "such as node=gpu-017 'rule=~gpu-.*' severity!=critical; all must match")
    .addOption(
      new Option('--until <time>', 'when it ends: a time, or 2h from now')
        .argParser(ending)
        .makeOptionMandatory(),
    )
    .addOption(new Option('--from <time>', 'when it begins; now where not given').argParser(ending))
    .addOption(why())
    .option('--id <id>', 'change this silence')
    .action((matchers: string[], options: SilenceOptions) =>
      run((context) => silence(context, matchers, options)),
    );

  program
    .command('unsilence')
    .description("end a silence now (operator's token)")
    .argument('<id>')
    .action((id: string) => run((context) => endSilence(context, id)));

  const notificationsCommand = program
    .command('notifications')
    .description('who was told what, what waits, and what was given up; newest first')
    .addOption(new Option('--state <state>', 'in this state').choices(Object.keys(NOTIFICATION_STATES)))
    .option('--receiver <name>', 'to this receiver')
    .addOption(limit())
    .action((options: NotificationOptions) => run((context) => notifications(context, options)));
  notificationsCommand
    .command('resend')
    .description("send what was given up again (operator's token); all of it where no id is given")
    .argument('[id...]')
    .action((ids: string[]) => run((context) => resendNotifications(context, ids)));

  const actionsCommand = program
    .command('actions')
    .description('what is done to nodes with critical alerts, or would be; newest first')
    .addOption(new Option('--state <state>', 'in this state').choices(Object.keys(ACTION_STATES)))
    .option('--node <name>', 'of this node')
    .addOption(limit())
    .action((options: ActionOptions) => run((context) => actions(context, options)));
  for (const [decision, what] of [
    ['approve', "let an action go ahead (operator's token)"],
    ['reject', "do not let it (operator's token)"],
    ['undo', "take back what an action did, as far as that is possible (operator's token)"],
  ] as const) {
    const command = actionsCommand.command(decision).description(what).argument('<id>');
    if (decision === 'approve') command.option('--why <text>', 'for the record', '');
    else command.addOption(why());
    command.action((id: string, options: { why: string }) =>
      run((context) => decide(context, decision, id, options.why)),
    );
  }

  program
    .command('audit')
    .description('who did what, and why: actions, silences, acknowledgements, decisions; newest first')
    .option('--node <name>', 'to this node')
    .option('--who <name>', 'by this person or policy')
    .option('--subject <id>', 'of this action, silence or alert')
    .addOption(new Option('--since <time>', 'of that time or later; 2h is two hours ago').argParser(moment))
    .addOption(new Option('--until <time>', 'of that time or earlier').argParser(moment))
    .addOption(limit())
    .action((options: AuditOptions) => run((context) => audit(context, options)));

  const rulesCommand = program
    .command('rules')
    .description('the alert rules that run')
    .action(() => run((context) => listRules(context)));
  rulesCommand
    .command('reload')
    .description("read the rules file again (operator's token); a bad one changes nothing")
    .action(() => run((context) => reloadRules(context)));
}
