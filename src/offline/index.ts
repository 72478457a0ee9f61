/**
 * Work on a data directory at rest: all that the command line does to one, as functions. None of them prints;
 * each reports its progress to a callback, and stops when a signal is aborted. All but `repair` and `rule`
 * may run beside a process that has the directory open.
 */
export type { Flaw } from '../audit/verify.ts'
export type { Position } from '../log/log.ts'
export type { Diff } from '../reprocess/reprocessing.ts'
export { openSql } from '../view/sql.ts'
export { type BackupOptions, backup, type Copied, type RestoreOptions, restore } from './backup.ts'
export { type CopyLogOptions, copyIn, copyLogTo, type RefreshOptions, refresh } from './carried-log.ts'
export {
  type Check,
  type CheckOptions,
  check,
  type DryRun,
  type DryRunOptions,
  dryRun,
} from './check.ts'
export { type Diagnosis, type DoctorOptions, doctor } from './doctor.ts'
export { type ExportOptions, exportLog } from './export-log.ts'
export type { Finding, Repair } from './finding.ts'
export type { LongWork, OfflineProgress } from './progress.ts'
export { type RepairOptions, repair } from './repair.ts'
export type { RequestJudges } from './request-judges.ts'
export { type RuledRecord, type RuleOptions, rule } from './rule.ts'
export type { BusyKey, Misfit, SchemaFit } from './schema-fits.ts'
export type { MessageCount } from './survey.ts'
export { type Verification, type VerifyOptions, verify } from './verify.ts'
export type { VerifiedGeneration, VerifiedHistory } from './verify-history.ts'
