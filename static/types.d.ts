// The API's answers, as far as the page reads them. For the type checker alone: never served.

export interface ProblemBody {
  status: number;
  code: string;
  detail: string;
  request_id: string;
  errors?: Finding[];
  error_count?: number;
  batch?: Batch | string;
}

export interface Finding {
  line: number;
  column: string | null;
  column_number: number | null;
  code: string;
  message: string;
}

export type Scope = "upload" | "read" | "manage";

export interface Who {
  kind: "client" | "operator";
  role?: "viewer" | "operator" | "admin";
  /** Of a client's key. */
  scopes?: Scope[];
  name: string;
  expires_at: string | null;
}

export type RowStatus = "pending" | "processing" | "completed" | "failed" | "cancelled";
export type Counts = Record<RowStatus | "total", number>;

export interface Batch {
  id: string;
  client?: string;
  workflow: string;
  status: "pending" | "processing" | "queued" | "completed" | "failed" | "cancelled";
  paused: boolean;
  counts: Counts;
  skipped: number;
  file: { name: string | null; bytes: number; sha256: string | null };
  created_at: string;
  extracted_at: string | null;
  finished_at: string | null;
  estimate?: { finished_at: string; seconds: number; reason: string } | null;
  waiting_for: string | null;
  error: { code: string; message: string } | null;
}

export interface Row {
  row: number;
  line: number;
  status: RowStatus;
  attempts: number;
  next_attempt_at: string | null;
  waiting_for?: string | null;
  check_id: unknown;
  error: { step: string | null; code: string; http_status: number | null; message: string; body: string | null } | null;
  data: Record<string, string>;
  steps: Step[];
}

export interface Step {
  name: string;
  status: string;
  requests: number;
  http_status: number | null;
  at: string | null;
  duration_ms: number | null;
  saved: Record<string, unknown>;
}

export interface ErrorGroup {
  step: string | null;
  code: string;
  http_status: number | null;
  count: number;
  example_row: number;
}

export interface Column {
  name: string;
  type: string;
  required: boolean;
  unique?: boolean;
  max_length?: number;
  aliases?: string[];
  values?: string[];
}

export interface Workflow {
  name: string;
  upload_path: string;
  columns: Column[];
  template: string;
  extra_columns: string;
  on_invalid_row: string;
  limits: { max_rows: number; max_bytes: number };
}

export interface Dependency {
  name: string;
  rate_per_second: number;
  adapted_rate_per_second: number;
  burst: number;
  concurrency: number;
  calls_last_minute: number;
  /** Of the last sixty minutes, oldest first; the last one is not over yet. */
  calls_by_minute: number[];
  in_flight: number;
  gate: { open: boolean; until: string | null; reason: string | null };
}

export interface Quota {
  limit: number;
  is_own: boolean;
  used?: number;
}

export interface Client {
  name: string;
  rows_per_run: number | null;
  limit: number;
  workflows: string[] | null;
  quotas: Record<"pending_rows" | "stored_bytes" | "batches" | "uploads_at_once", Quota>;
  paused: boolean;
  batches: number;
  pending: number;
  processing: number;
  completed: number;
  failed: number;
}

export interface Run {
  run: number;
  at: string;
  asked_by: "call" | "clock" | "take_over";
  rows: number;
  clients: number;
  granted: { client: string; rows: number }[];
}

export interface Alert {
  id: string;
  alert: string;
  subject: string | null;
  summary: string;
  hint: string;
  what_to_do: string[];
  since: string;
  resolved_at: string | null;
}

export interface Overview {
  at: string;
  alerts: Alert[];
  dispatch: {
    paused: { at: string; by: string; reason: string | null } | null;
    last_run: Run | null;
    /** Since when the calls that ask for runs are missing. */
    missing_since: string | null;
    /** Whether the built-in clock makes the runs meanwhile. */
    taken_over: boolean;
  };
  dependencies: Dependency[];
  clients: Client[];
  batches: Batch[];
  stuck: { rows: number; batches: number };
  storage: {
    database_bytes: number | null;
    wal_bytes: number | null;
    disk_free_bytes: number | null;
    disk_total_bytes: number | null;
  };
  keys: string[];
  last_backup: { at: string; place: string } | null;
  late_settles: number;
  /** Deleted batches of which not everything is cleared away. */
  deletions: { id: string; rows: number; rows_left: number }[];
}

export interface Stuck {
  rows: { row: string; expired_at: string; becomes: string }[];
  batches: { batch: string; extracted: number; expired_at: string; becomes: string }[];
  applied: { rows: number; batches: number } | null;
}

export interface AuditEntry {
  at: string;
  who: string;
  action: string;
  target: string | null;
  from: string;
  why: string | null;
}
