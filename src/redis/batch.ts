/** A batch: the commands of one call of the script, and the throttle object that sends them. */
import type { ThrottleBackendError } from './errors.js';
import type { Command, Reply } from './protocol.js';

/** A caller that waits for the reply to a command, or to the limits alone. */
export interface Confirmation {
  readonly command: Command | undefined;
  readonly onDone: () => void;
  readonly onFailed: (error: ThrottleBackendError) => void;
}

/** The flags and the rate of a batch. */
export interface BatchTerms {
  readonly flags: string;
  readonly rate: string;
}

/** The commands of one call of the script. */
export interface Batch {
  readonly owner: string;
  readonly sequence: number;
  /** The settings that stay with the batch when it is sent again: Redis may have applied the first copy. */
  readonly settings: BatchTerms;
  /** Whether the owner ends with this batch. */
  readonly ends: boolean;
  commands: Command[];
  confirmations: Confirmation[];
  /** The instant of the latest sending. */
  sentAt: number;
  /** The number of gaps in the messages before the latest sending. */
  gapsBefore: number;
  /** Whether Redis had replied to all earlier batches at the latest sending. */
  wasFirst: boolean;
  /** Whether the owner ends with this copy of the batch. */
  endsNow: boolean;
  inFlight: boolean;
}

/** The throttle object whose commands these are. */
export interface OutboxOwner {
  /** Calls the script. Rejects with a {@link ThrottleBackendError} if Redis, or the client, fails. */
  send(batch: Batch): Promise<Reply>;
  /** Creates an owner name, and receives its messages from then on. */
  beginEpoch(): string;
  /** The flags and the rate of a new batch. */
  terms(): BatchTerms;
  /** Whether the owner may end, because it holds nothing and no call waits. */
  mayEnd(): boolean;
  /** The commands that state what the throttle object holds, for an epoch that begins. */
  restate(): Command[];
  /** The commands of batch 0 when it is sent again: messages may have brought leases since. */
  repeatFirst(commands: readonly Command[]): Command[];
  onReply(batch: Batch, reply: Reply): void;
  onFailure(batch: Batch, error: ThrottleBackendError): void;
  now(): number;
  /** Something has changed that the alarm depends on. */
  onChange(): void;
}

/** Whether a command concerns other processes, or counts once only: it is not stated by the state of the process. */
export const isKept = ({ kind }: Command): boolean =>
  kind === 'pause' || kind === 'resume' || kind === 'settle' || kind === 'correct';

/** The serials of the requests among `commands`. */
export function serialsOf(commands: readonly Command[]): Set<string> {
  const serials = new Set<string>();
  for (const command of commands) if (command.kind === 'acquire') serials.add(command.serial);
  return serials;
}
